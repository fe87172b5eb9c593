-- The functions of the schema, as the newest version has them; they follow its tables. Names are
-- written as of schema "aiocheckpoint". Those that others call alone take their search path.

-- Make a session's row, unless there is one, and return its key. Of one that somebody else is just
-- making, nobody sees anything: whoever is not to wait finds out by waiting for a millisecond.
create or replace function aiocheckpoint.make_session(p_id bytea, p_waits boolean)
returns bigint language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    v_key bigint;
    v_before text := current_setting('lock_timeout');
    v_setting text;
begin
    if not p_waits then
        v_setting := set_config('lock_timeout', '1', true);
    end if;
    insert into aiocheckpoint.session (session_id) values (p_id)
        on conflict do nothing returning session_key into v_key;
    v_setting := set_config('lock_timeout', v_before, true);
    return v_key;
exception when lock_not_available then
    if p_waits then
        raise;
    end if;
    return null;
end $$;

-- Lock a session's row. Return its key, 0 where there is none and none is to be made, or null where
-- somebody else has it and it is not to be waited for.
create or replace function aiocheckpoint.lock_session(p_id bytea, p_waits boolean, p_makes boolean)
returns bigint language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    v_key bigint;
begin
    loop
        if p_waits then
            select session_key into v_key from aiocheckpoint.session
                where substring(session_id from 1 for 1000) = substring(p_id from 1 for 1000)
                and session_id = p_id
                for update;
        else
            select session_key into v_key from aiocheckpoint.session
                where substring(session_id from 1 for 1000) = substring(p_id from 1 for 1000)
                and session_id = p_id
                for update skip locked;
        end if;
        if found then
            return v_key;
        end if;
        if p_makes then
            v_key := aiocheckpoint.make_session(p_id, p_waits);
            if v_key is not null or not p_waits then
                return v_key;
            end if;
        elsif p_waits then
            return 0;
        else
            perform from aiocheckpoint.session
                where substring(session_id from 1 for 1000) = substring(p_id from 1 for 1000)
                and session_id = p_id;
            return case when found then null else 0 end;
        end if;
    end loop;
end $$;

-- Remove the blobs among these that nothing names, and then those that they alone named.
create or replace function aiocheckpoint.collect(p_key bigint, p_digests bytea[])
returns void language plpgsql as $$
begin
    while p_digests is not null loop
        with gone as (
            delete from aiocheckpoint.blob b
                where b.session_key = p_key and b.digest = any (p_digests)
                and not exists (
                    select from aiocheckpoint.blob_use u
                    where u.session_key = p_key and u.digest = b.digest
                ) and not exists (
                    select from aiocheckpoint.blob_link l
                    where l.session_key = p_key and l.digest = b.digest
                ) returning digest, links
        ), unlinked as (
            delete from aiocheckpoint.blob_link l
                using gone g, unnest(g.links) child
                where l.session_key = p_key and l.digest = child and l.named_by = g.digest
        )
        select array_agg(distinct child) into p_digests from gone, unnest(links) child;
    end loop;
end $$;

-- What a body is made of: its content, and before it those that it needs, the first one first.
create or replace function aiocheckpoint.parts(p_key bigint, p_seq bigint)
returns bytea[] language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    v_parts bytea[] := '{}';
    v_content bytea;
begin
    while p_seq is not null loop
        select case when base_seq < seq then base_seq end, content into p_seq, v_content
            from aiocheckpoint.body where session_key = p_key and seq = p_seq;
        exit when not found;
        v_parts := v_content || v_parts;
    end loop;
    return v_parts;
end $$;

-- Bodies, and all that they need, each once.
create or replace function aiocheckpoint.bodies(p_key bigint, p_seqs bigint[])
returns table (seq bigint, base_seq bigint, content bytea)
language plpgsql stable as $$
begin
    return query with recursive needed (place, base) as (
        select b.seq, b.base_seq from aiocheckpoint.body b
            where b.session_key = p_key and b.seq = any (p_seqs)
        union
        select b.seq, b.base_seq from needed join aiocheckpoint.body b
            on b.session_key = p_key and b.seq = needed.base
    )
    select b.seq, b.base_seq, b.content from needed join aiocheckpoint.body b
        on b.session_key = p_key and b.seq = needed.place;
end $$;

-- What a client is about to ask of a session, at one moment: as many ids as p_newest, saved last
-- first; the head, which is p_head or the newest id that begins so; the family, all ids that
-- begin with p_family and the p_shared bytes that follow p_head in the head; what they are and lead to.
create or replace function aiocheckpoint.look_ahead(
    p_id bytea, p_newest integer, p_head bytea, p_family bytea, p_shared integer,
    out newest bytea[], out head bytea, out head_seq bigint,
    out family bytea[], out family_seqs bigint[],
    out seqs bigint[], out base_seqs bigint[], out contents bytea[],
    out digests bytea[], out blobs bytea[]
)
language plpgsql stable set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_generic_plan set enable_bitmapscan = off as $$
declare
    v_key bigint;
    v_begin bytea;
    v_newest_seqs bigint[];
    v_wanted bigint;
    v_base_seq bigint;
    v_digest bytea;
    v_content bytea;
    v_names bytea[];
    v_digests bytea[];
    v_links bytea[];
begin
    seqs := '{}';
    select session_key into v_key from aiocheckpoint.session
        where substring(session_id from 1 for 1000) = substring(p_id from 1 for 1000)
        and session_id = p_id;
    if not found then
        return;
    end if;
    select checkpoint_id, seq into head, head_seq from aiocheckpoint.checkpoint
        where session_key = v_key and checkpoint_id = p_head
        and substring(checkpoint_id from 1 for 1000) = substring(p_head from 1 for 1000);
    if p_newest > 0 then
        select array_agg(checkpoint_id), array_agg(seq) into newest, v_newest_seqs from (
            select checkpoint_id, seq from aiocheckpoint.checkpoint
            where session_key = v_key order by seq desc limit p_newest
        ) last;
        for i in 1 .. coalesce(cardinality(newest), 0) loop
            exit when head is not null;
            if substring(newest[i] from 1 for octet_length(p_head)) = p_head then
                head := newest[i];
                head_seq := v_newest_seqs[i];
            end if;
        end loop;
    end if;
    if head is null and (p_newest = 0 or cardinality(newest) = p_newest) then
        -- Whether one begins so is told by the index, which of those is the newest by their order.
        select checkpoint_id, seq into head, head_seq from aiocheckpoint.checkpoint
            where session_key = v_key and checkpoint_id >= p_head
            and checkpoint_id < p_head || '\xff' and exists (
                select from aiocheckpoint.checkpoint
                where session_key = v_key
                and substring(checkpoint_id from 1 for 1000) >= substring(p_head from 1 for 1000)
                and substring(checkpoint_id from 1 for 1000)
                    <= substring(p_head from 1 for 1000) || '\xff'
                and checkpoint_id >= p_head and checkpoint_id < p_head || '\xff'
            )
            order by seq desc limit 1;
    end if;
    if head is not null or p_shared = 0 then
        v_begin := p_family || substring(
            coalesce(head, '') from octet_length(p_head) + 1 for p_shared
        );
        select array_agg(checkpoint_id order by checkpoint_id desc),
            array_agg(seq order by checkpoint_id desc)
            into family, family_seqs from aiocheckpoint.checkpoint
            where session_key = v_key
            and substring(checkpoint_id from 1 for 1000) >= substring(v_begin from 1 for 1000)
            and substring(checkpoint_id from 1 for 1000)
                <= substring(v_begin from 1 for 1000) || '\xff'
            and checkpoint_id >= v_begin and checkpoint_id < v_begin || '\xff';
    end if;
    -- Each body with all that it needs, each once; and what is named.
    foreach v_wanted in array head_seq || coalesce(family_seqs, '{}') loop
        select blob_digests into v_names from aiocheckpoint.checkpoint
            where session_key = v_key and seq = v_wanted;
        v_digests := v_digests || v_names;
        while v_wanted is not null and v_wanted <> all (seqs) loop
            select base_seq, content into v_base_seq, v_content
                from aiocheckpoint.body where session_key = v_key and seq = v_wanted;
            exit when not found;
            seqs := seqs || v_wanted;
            base_seqs := base_seqs || v_base_seq;
            contents := contents || v_content;
            v_wanted := v_base_seq;
        end loop;
    end loop;
    while cardinality(v_digests) > 0 loop
        v_links := null;
        for v_digest, v_names, v_content in
            select digest, links, content from unnest(v_digests) wanted cross join lateral (
                select * from aiocheckpoint.blob
                where session_key = v_key and digest = wanted offset 0
            ) found
        loop
            digests := digests || v_digest;
            blobs := blobs || v_content;
            v_links := v_links || v_names;
        end loop;
        exit when v_links is null;
        v_digests := array(select unnest(v_links) except select unnest(digests));
    end loop;
end $$;

-- Tell whether a body, and all that it needs, is there as it was sent, and can be read.
create or replace function aiocheckpoint.is_whole(p_key bigint, p_seq bigint)
returns boolean language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    v_is_intact boolean;
begin
    while p_seq is not null loop
        select base_seq, coalesce(base_seq < seq, true) and sha256(content) = sha256
            into p_seq, v_is_intact from aiocheckpoint.body
            where session_key = p_key and seq = p_seq;
        if v_is_intact is not true then
            return false;
        end if;
    end loop;
    return true;
exception when internal_error or data_corrupted or index_corrupted then
    return false;
end $$;

-- Tell how large a document is, by the head of what is stored: a frame of zstd says there how much it
-- unpacks to, and nothing is unpacked. Null where there is nothing, or nothing that can be read.
create or replace function aiocheckpoint.document_bytes(p_key bigint, p_seq bigint)
returns bigint language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    v_head bytea;
    v_size bigint;
    v_flags integer;
    v_at integer;
    v_length integer;
begin
    select substring(content from 1 for 18), octet_length(content) into v_head, v_size
        from aiocheckpoint.body where session_key = p_key and seq = p_seq;
    if octet_length(v_head) < 18 or substring(v_head from 1 for 4) <> '\x28b52ffd' then
        return v_size;
    end if;
    v_flags := get_byte(v_head, 4);
    v_at := 5 + case when v_flags & 32 = 0 then 1 else 0 end + (array[0, 1, 2, 4])[(v_flags & 3) + 1];
    v_length := case when v_flags & 224 = 0 then 0 else 1 << (v_flags >> 6) end;
    if v_length > 0 then
        v_size := case when v_length = 2 then 256 else 0 end;
        for i in 0 .. v_length - 1 loop
            v_size := v_size + (get_byte(v_head, v_at + i)::bigint << 8 * i);
        end loop;
    end if;
    return v_size;
exception when internal_error or data_corrupted or index_corrupted or numeric_value_out_of_range then
    return null;
end $$;

-- Remove bodies that no checkpoint has and no other body needs, and then those that they alone
-- needed. A base is at most 64 places before what needs it; `apply` sees to that.
create or replace function aiocheckpoint.drop_bodies(p_key bigint, p_seqs bigint[])
returns void language plpgsql as $$
begin
    while p_seqs is not null loop
        with gone as (
            delete from aiocheckpoint.body b
                where b.session_key = p_key and b.seq = any (p_seqs)
                and not exists (
                    select from aiocheckpoint.checkpoint c
                    where c.session_key = p_key and c.seq = b.seq
                ) and not exists (
                    select from aiocheckpoint.body o
                    where o.session_key = p_key and o.seq > b.seq and o.seq <= b.seq + 64
                    and o.base_seq = b.seq
                ) returning base_seq
        )
        select array_agg(base_seq) filter (where base_seq is not null) into p_seqs from gone;
    end loop;
end $$;

-- Remove checkpoints, and what they alone name; return how many there were. The row of the session
-- is locked, and its count is the caller's affair.
create or replace function aiocheckpoint.remove(p_key bigint, p_seqs bigint[])
returns bigint language plpgsql as $$
declare
    v_count bigint;
    v_digests bytea[];
begin
    with gone as (
        delete from aiocheckpoint.checkpoint
            where session_key = p_key and seq = any (p_seqs) returning blob_digests
    )
    select (select count(*) from gone),
           (select array_agg(distinct d) from gone, unnest(blob_digests) d)
        into v_count, v_digests;
    if v_digests is not null then
        delete from aiocheckpoint.blob_use
            where session_key = p_key and digest = any (v_digests) and seq = any (p_seqs);
        perform aiocheckpoint.collect(p_key, v_digests);
    end if;
    perform aiocheckpoint.drop_bodies(p_key, p_seqs);
    return v_count;
end $$;

-- Note how a session is after a change; it goes when nothing is left of it.
create or replace function aiocheckpoint.close_session(
    p_key bigint, p_last_seq bigint, p_last_saved_at timestamptz, p_checkpoints bigint
)
returns void language plpgsql as $$
begin
    if p_checkpoints = 0 then
        delete from aiocheckpoint.session where session_key = p_key and owner_token is null;
        if found then
            return;
        end if;
    end if;
    update aiocheckpoint.session
        set last_seq = p_last_seq, last_saved_at = p_last_saved_at, checkpoints = p_checkpoints
        where session_key = p_key;
end $$;

-- Commit changes: of several sessions, those of each behind one another, in the order of the calls,
-- and the sessions in the order of their ids.
--
-- p_writer, p_batch: who, and its how many-eth commit. The same again is an error, AC001, and changes
--     nothing: `outcomes` tells what came of it, also when the first one is still on its way.
-- p_wait_ms: how long to wait for the row of a session; null: answer that it is busy.
-- p_keep: how many checkpoints to keep in a session; null: all.
-- p_numbers: of each change its kind, fence, expects, iteration, base_seq, names_end, blobs_end.
-- p_bytes: of each change its session, expected, id, trigger, checksum, content, sha256, chain.
-- p_created_at: of each change; together they are few arrays, each of which takes as long as a row.
-- p_names: for saves the digests that the record names, for deletes the ids.
-- p_digests, p_contents: the blobs that come with a save.
-- p_links: which blobs a blob names; p_links_end says where those of a blob end.
--
-- kind: 1 a save, 2 a delete of some, 3 of all.
-- fence: the token of the owner who makes the change.
-- expects: 0 nothing, 1 that `expected` is the newest, 2 that there is none.
-- base_seq, chain: which body the content needs; the SHA-256 of its content, and behind it those of
--     what that needs.
-- names_end, blobs_end: where those of the change end.
-- content, sha256: what to store of the body.
--
-- Returns for each change a byte and more: 0 done, and its seq, or how many were removed; 1 another
-- one is the newest, and 1 and which, or 0; 2 a blob is missing, and its digest; 3 not the owner
-- any more; 4 the session is busy; 5 what its content needs is not there, or anything that a change
-- of the session before it needs, which may come again. One that is refused has changed nothing.
--
-- A statement takes longer to begin than to find a row, so there are few. Each has one plan, which
-- finds rows by whole keys: planned anew, or with a session's rows looked through, it takes longer.
create or replace function aiocheckpoint.apply(
    p_writer bigint, p_batch bigint, p_wait_ms integer, p_keep bigint,
    p_numbers bigint[], p_bytes bytea[], p_created_at timestamptz[],
    p_names bytea[], p_digests bytea[], p_contents bytea[], p_links bytea[], p_links_end integer[]
)
returns bytea[] language plpgsql set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_generic_plan set enable_bitmapscan = off as $$
declare
    v_changes integer := cardinality(p_numbers) / 7;
    v_outcomes bytea[];
    v_setting text;
    v_session bytea;
    v_kind bigint;
    v_fence bigint;
    v_expects bigint;
    v_base_seq bigint;
    v_names_end integer := 0;
    v_blobs_end integer := 0;
    v_expected bytea;
    v_id bytea;
    v_chain bytea;
    v_key bigint;
    v_seq bigint;
    v_saved_at timestamptz;
    v_count bigint;
    v_owner bigint;
    v_newest bytea;  -- as far as it was looked for
    v_knows_newest boolean;
    v_names bytea[];
    v_missing bytea;
    v_needs_whole boolean;
    v_needs_newest boolean;
    v_links bytea[];
    v_old bigint;
    v_old_digests bytea[];
    v_replaced bigint[];  -- what is packed against them may come in the same commit
    v_removed bigint;
    v_names_begin integer;
    v_blobs_begin integer;
    v_is_complete boolean;
    v_whole bytea;  -- the chain that can be read, as this commit has seen already
    v_is_intact boolean;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'the transaction isolation must be read committed';
    end if;
    if current_setting('synchronous_commit') = 'off' then
        v_setting := set_config('synchronous_commit', 'on', true);
    end if;
    v_setting := set_config('lock_timeout', coalesce(p_wait_ms, 10000)::text, true);

    for i in 0 .. v_changes loop
        if v_session is distinct from p_bytes[i * 8 + 1] then
            if v_key > 0 then
                if v_replaced is not null then
                    perform aiocheckpoint.drop_bodies(v_key, v_replaced);
                end if;
                if v_count > 0 then
                    update aiocheckpoint.session
                        set last_seq = v_seq, last_saved_at = v_saved_at, checkpoints = v_count
                        where session_key = v_key;
                else
                    perform aiocheckpoint.close_session(v_key, v_seq, v_saved_at, v_count);
                end if;
            end if;
            v_session := p_bytes[i * 8 + 1];
            exit when v_session is null;
            v_replaced := null;
            v_whole := null;
            v_knows_newest := false;
            v_is_complete := true;
            select session_key, last_seq, last_saved_at, checkpoints, owner_token
                into v_key, v_seq, v_saved_at, v_count, v_owner
                from aiocheckpoint.session
                where substring(session_id from 1 for 1000) = substring(v_session from 1 for 1000)
                and session_id = v_session
                for update skip locked;
            if not found then
                v_key := aiocheckpoint.lock_session(
                    v_session, p_wait_ms is not null, 1 = any (array(
                        select p_numbers[j * 7 + 1] from generate_series(i, v_changes - 1) j
                        where p_bytes[j * 8 + 1] = v_session
                    ))
                );
                if v_key > 0 then
                    select last_seq, last_saved_at, checkpoints, owner_token
                        into v_seq, v_saved_at, v_count, v_owner
                        from aiocheckpoint.session where session_key = v_key;
                else
                    v_owner := null;
                    v_count := 0;
                end if;
            end if;
        end if;
        v_kind := p_numbers[i * 7 + 1];
        v_fence := p_numbers[i * 7 + 2];
        v_names_begin := v_names_end + 1;
        v_names_end := p_numbers[i * 7 + 6];
        v_blobs_begin := v_blobs_end + 1;
        v_blobs_end := p_numbers[i * 7 + 7];
        v_names := p_names[v_names_begin : v_names_end];

        if v_key is null then
            v_outcomes[i + 1] := '\x04';
        elsif not v_is_complete then
            v_outcomes[i + 1] := '\x05';
        elsif v_fence is not null and v_owner is distinct from v_fence then
            v_outcomes[i + 1] := '\x03';
        elsif v_kind = 1 then
            <<saving>>
            begin
                v_expects := p_numbers[i * 7 + 3];
                v_base_seq := p_numbers[i * 7 + 5];
                v_expected := p_bytes[i * 8 + 2];
                v_id := p_bytes[i * 8 + 3];
                v_chain := p_bytes[i * 8 + 8];
                v_links := case when cardinality(v_names) > 0 then v_names || p_links[
                    coalesce(p_links_end[v_blobs_begin - 1], 0) + 1 : p_links_end[v_blobs_end]
                ] end;
                v_missing := null;
                v_is_complete := coalesce(v_base_seq >= v_seq - 63, true);
                v_needs_whole := v_chain is not null and v_chain is distinct from v_whole;
                v_needs_newest := v_expects > 0 and not v_knows_newest;
                if v_is_complete and (v_needs_whole or v_needs_newest or v_links is not null) then
                    begin
                        select
                            case when v_needs_whole then coalesce((
                                select string_agg(sha256(content), '') = v_chain
                                    and v_base_seq || array_agg(base_seq)
                                        = array_agg(seq) || null::bigint
                                from (
                                    select seq, base_seq, content from aiocheckpoint.body
                                    where session_key = v_key and seq <= v_base_seq
                                    and seq > v_base_seq - 2 * octet_length(v_chain)
                                    and position(sha256 in v_chain) > 0
                                    order by seq desc limit octet_length(v_chain) / 32
                                ) parts
                            ), false) else true end,
                            case when v_needs_newest then (
                                select checkpoint_id from aiocheckpoint.checkpoint
                                where session_key = v_key order by seq desc limit 1
                            ) else v_newest end,
                            case when v_links is not null then (
                                select d from unnest(v_links) d
                                where not d = any (p_digests[v_blobs_begin : v_blobs_end])
                                and (
                                    select digest from aiocheckpoint.blob
                                    where session_key = v_key and digest = d
                                ) is null limit 1
                            ) end
                            into v_is_complete, v_newest, v_missing;
                    exception when internal_error or data_corrupted or index_corrupted then
                        if v_base_seq is null then
                            raise;
                        end if;
                        v_is_complete := false;
                    end;
                end if;
                if not v_is_complete then
                    v_outcomes[i + 1] := '\x05';
                    exit saving;
                end if;
                v_whole := coalesce(v_chain, v_whole);
                v_knows_newest := v_knows_newest or v_needs_newest;
                if v_expects = 2 and v_count > 0
                    or v_expects = 1 and v_newest is distinct from v_expected
                then
                    v_outcomes[i + 1] := coalesce('\x0101'::bytea || v_newest, '\x0100');
                    exit saving;
                end if;
                if v_missing is not null then
                    v_is_complete := false;
                    v_outcomes[i + 1] := '\x02'::bytea || v_missing;
                    exit saving;
                end if;
                for b in v_blobs_begin .. v_blobs_end loop
                    v_links := p_links[coalesce(p_links_end[b - 1], 0) + 1 : p_links_end[b]];
                    insert into aiocheckpoint.blob (session_key, digest, links, content)
                        values (v_key, p_digests[b], nullif(v_links, '{}'), p_contents[b])
                        on conflict do nothing;
                    if not found then  -- what is damaged there is stored anew
                        begin
                            select sha256(content) = digest into v_is_intact
                                from aiocheckpoint.blob
                                where session_key = v_key and digest = p_digests[b];
                        exception when internal_error or data_corrupted or index_corrupted then
                            v_is_intact := false;
                        end;
                        if not v_is_intact then
                            update aiocheckpoint.blob
                                set links = nullif(v_links, '{}'), content = p_contents[b]
                                where session_key = v_key and digest = p_digests[b];
                        end if;
                    end if;
                    if cardinality(v_links) > 0 then
                        insert into aiocheckpoint.blob_link (session_key, digest, named_by)
                            select v_key, l, p_digests[b] from unnest(v_links) l
                            on conflict do nothing;
                    end if;
                end loop;
                v_seq := v_seq + 1;
                v_saved_at := greatest(clock_timestamp(), v_saved_at + interval '1 microsecond');
                v_newest := v_id;
                v_knows_newest := true;
                insert into aiocheckpoint.body (session_key, seq, base_seq, sha256, content)
                    values (v_key, v_seq, v_base_seq, p_bytes[i * 8 + 7], p_bytes[i * 8 + 6]);
                select seq, blob_digests into v_old, v_old_digests from aiocheckpoint.checkpoint
                    where session_key = v_key
                    and substring(checkpoint_id from 1 for 1000)
                        = substring(v_id from 1 for 1000)
                    and checkpoint_id = v_id;
                if v_old is null then
                    v_count := v_count + 1;
                    insert into aiocheckpoint.checkpoint (
                        session_key, seq, checkpoint_id, saved_at, created_at, iteration, trigger,
                        checksum, blob_digests
                    ) values (
                        v_key, v_seq, v_id, v_saved_at,
                        p_created_at[i + 1],
                        p_numbers[i * 7 + 4], p_bytes[i * 8 + 4], p_bytes[i * 8 + 5],
                        nullif(v_names, '{}')
                    );
                else
                    update aiocheckpoint.checkpoint
                        set seq = v_seq, saved_at = v_saved_at, created_at = p_created_at[i + 1],
                            iteration = p_numbers[i * 7 + 4], trigger = p_bytes[i * 8 + 4],
                            checksum = p_bytes[i * 8 + 5], blob_digests = nullif(v_names, '{}')
                        where session_key = v_key and seq = v_old;
                    if v_base_seq is distinct from v_old then
                        v_replaced := v_replaced || v_old;
                    end if;
                end if;
                if v_old_digests = v_names then
                    update aiocheckpoint.blob_use set seq = v_seq
                        where session_key = v_key and digest = any (v_names) and seq = v_old;
                else
                    if cardinality(v_names) > 0 then
                        insert into aiocheckpoint.blob_use (session_key, digest, seq)
                            select v_key, d, v_seq from unnest(v_names) d;
                    end if;
                    if v_old_digests is not null then
                        delete from aiocheckpoint.blob_use
                            where session_key = v_key and digest = any (v_old_digests)
                            and seq = v_old;
                        perform aiocheckpoint.collect(v_key, v_old_digests);
                    end if;
                end if;
                if v_count > p_keep then
                    v_count := v_count - aiocheckpoint.remove(v_key, array(
                        select seq from aiocheckpoint.checkpoint
                        where session_key = v_key order by seq limit v_count - p_keep
                    ));
                end if;
                v_outcomes[i + 1] := '\x00'::bytea || v_seq::text::bytea;
            end;
        elsif v_count = 0 then
            v_outcomes[i + 1] := '\x0030';
        else
            v_whole := null;
            v_knows_newest := false;
            if v_kind = 3 then
                delete from aiocheckpoint.blob_use where session_key = v_key;
                delete from aiocheckpoint.blob_link where session_key = v_key;
                delete from aiocheckpoint.blob where session_key = v_key;
                delete from aiocheckpoint.checkpoint where session_key = v_key;
                delete from aiocheckpoint.body where session_key = v_key;
                v_removed := v_count;
            else
                v_removed := aiocheckpoint.remove(v_key, array(
                    select seq from aiocheckpoint.checkpoint
                    where session_key = v_key and checkpoint_id = any (v_names)
                    and substring(checkpoint_id from 1 for 1000) in (
                        select substring(n from 1 for 1000) from unnest(v_names) n
                    )
                ));
            end if;
            v_count := v_count - v_removed;
            v_outcomes[i + 1] := '\x00'::bytea || v_removed::text::bytea;
        end if;
    end loop;

    -- Whoever makes the same commit again waits here for the other one, and finds it made.
    update aiocheckpoint.writer
        set batch = p_batch, outcomes = v_outcomes, updated_at = clock_timestamp()
        where writer_id = p_writer and batch < p_batch;
    if not found then
        insert into aiocheckpoint.writer (writer_id, batch, outcomes, updated_at)
            values (p_writer, p_batch, v_outcomes, clock_timestamp())
            on conflict do nothing;
        if not found then
            raise exception 'the commit was made before' using errcode = 'AC001';
        end if;
    end if;
    return v_outcomes;
end $$;

-- Tell what came of a commit, and that for good: null for one that was not made, nor ever will be.
create or replace function aiocheckpoint.outcomes(p_writer bigint, p_batch bigint, p_wait_ms integer)
returns bytea[] language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    v_outcomes bytea[];
begin
    perform set_config('lock_timeout', p_wait_ms::text, true);
    insert into aiocheckpoint.writer (writer_id, batch, outcomes, updated_at)
        values (p_writer, p_batch, '{}', clock_timestamp())
        on conflict (writer_id) do update
        set batch = excluded.batch, outcomes = excluded.outcomes,
            updated_at = excluded.updated_at
        where aiocheckpoint.writer.batch < excluded.batch;
    if not found then
        select outcomes into v_outcomes from aiocheckpoint.writer
            where writer_id = p_writer and outcomes <> '{}';
    end if;
    return v_outcomes;
end $$;

-- Move checkpoints and blobs of a session to the quarantine; return their numbers there. Blobs that
-- nothing names afterwards go with them. Of what is_readable is false for, no content can be
-- kept. saved_at tells a checkpoint from another one that has its place by now.
create or replace function aiocheckpoint.put_aside(
    p_id bytea, p_seqs bigint[], p_saved_at timestamptz[], p_reasons text[],
    p_is_readable boolean[],
    p_digests bytea[], p_blob_reasons text[], p_is_blob_readable boolean[]
)
returns bigint[] language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    v_key bigint;
    v_session aiocheckpoint.session;
    v_numbers bigint[] := '{}';
    v_number bigint;
    v_count bigint := 0;
    v_digest bytea;
    v_position integer;
begin
    v_key := aiocheckpoint.lock_session(p_id, true, false);
    select * into v_session from aiocheckpoint.session where session_key = v_key;
    if not found then
        return v_numbers;
    end if;
    for i in 1 .. cardinality(p_seqs) loop
        insert into aiocheckpoint.quarantine
            (kind, reason, session_id, checkpoint_id, seq, saved_at, content, bases)
            select 'checkpoint', p_reasons[i], p_id, checkpoint_id, seq, saved_at,
                parts[cardinality(parts)], nullif(parts[: cardinality(parts) - 1], '{}')
            from aiocheckpoint.checkpoint, coalesce(
                case when p_is_readable[i] then aiocheckpoint.parts(session_key, seq) end, '{}'
            ) parts
            where session_key = v_key and seq = p_seqs[i] and saved_at = p_saved_at[i]
            returning quarantine_id into v_number;
        if found then
            delete from aiocheckpoint.blob_use where session_key = v_key and seq = p_seqs[i];
            delete from aiocheckpoint.checkpoint where session_key = v_key and seq = p_seqs[i];
            perform aiocheckpoint.drop_bodies(v_key, p_seqs[i : i]);
            v_numbers := v_numbers || v_number;
            v_count := v_count + 1;
        end if;
    end loop;
    loop
        select digest into v_digest from aiocheckpoint.blob b
            where session_key = v_key and (digest = any (p_digests) or not exists (
                select from aiocheckpoint.blob_use u
                where u.session_key = v_key and u.digest = b.digest
            ) and not exists (
                select from aiocheckpoint.blob_link l
                where l.session_key = v_key and l.digest = b.digest
            )) order by digest limit 1;
        exit when not found;
        v_position := array_position(p_digests, v_digest);
        insert into aiocheckpoint.quarantine (kind, reason, session_id, digest, content)
            select 'blob', coalesce(p_blob_reasons[v_position], 'no checkpoint refers to it'),
                p_id, digest,
                case when coalesce(p_is_blob_readable[v_position], true) then content end
            from aiocheckpoint.blob where session_key = v_key and digest = v_digest
            returning quarantine_id into v_number;
        delete from aiocheckpoint.blob_link where session_key = v_key and named_by = v_digest;
        delete from aiocheckpoint.blob where session_key = v_key and digest = v_digest;
        v_numbers := v_numbers || v_number;
    end loop;
    perform aiocheckpoint.close_session(
        v_key, v_session.last_seq, v_session.last_saved_at, v_session.checkpoints - v_count
    );
    return v_numbers;
end $$;

-- Return a token that is greater than all before: at least the milliseconds since 1970, as a replica
-- that takes over, or a backup, may not know all that were given. A sequence knows no transaction:
-- the lock is held for moments, and not until others have committed. It is set as its owner may.
create or replace function aiocheckpoint.new_token() returns bigint language plpgsql
    security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_lock bigint := hashtextextended('aiocheckpoint.owner_token', 0);
    v_now bigint;
    v_token bigint;
begin
    perform pg_advisory_lock(v_lock);
    v_now := extract(epoch from clock_timestamp()) * 1000;
    v_token := nextval('aiocheckpoint.owner_token');
    if v_token < v_now then
        v_token := setval('aiocheckpoint.owner_token', v_now);
    end if;
    perform pg_advisory_unlock(v_lock);
    return v_token;
exception when query_canceled or others then
    -- Asked for, as it may have come at any moment: to give back what one does not have is warned of.
    if exists (
        select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and granted
        and (classid::bigint << 32 | objid::bigint) = v_lock and objsubid = 1
    ) then
        perform pg_advisory_unlock(v_lock);
    end if;
    raise;
end $$;

-- Own a session until some time from now. Return the token, greater than those of all owners
-- before; null where somebody else owns it. The same holder gets its token again. An owner that
-- waits for the row as well, to say that it lives, is not followed before it could.
create or replace function aiocheckpoint.own(p_id bytea, p_holder bigint, p_lease interval, p_wait_ms integer)
returns bigint language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    v_key bigint;
    v_token bigint;
    v_holder bigint;
    v_until timestamptz;
    v_has_waited boolean;
begin
    perform set_config('lock_timeout', p_wait_ms::text, true);
    v_key := aiocheckpoint.lock_session(p_id, false, true);
    v_has_waited := v_key is null;
    if v_has_waited then
        v_key := aiocheckpoint.lock_session(p_id, true, true);
    end if;
    select owner_token, owner_holder, owned_until into v_token, v_holder, v_until
        from aiocheckpoint.session where session_key = v_key;
    if v_token is not null and v_holder <> p_holder
        and (v_has_waited or v_until > clock_timestamp())
    then
        return null;
    end if;
    if v_holder is distinct from p_holder then
        v_token := aiocheckpoint.new_token();
    end if;
    update aiocheckpoint.session
        set owner_token = v_token, owner_holder = p_holder,
            owned_until = clock_timestamp() + p_lease
        where session_key = v_key;
    return v_token;
end $$;

-- Own a session for longer; false for one who is not its owner any more.
create or replace function aiocheckpoint.renew(p_id bytea, p_token bigint, p_lease interval)
returns boolean language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    update aiocheckpoint.session set owned_until = clock_timestamp() + p_lease
        where substring(session_id from 1 for 1000) = substring(p_id from 1 for 1000)
        and session_id = p_id and owner_token = p_token;
    return found;
end $$;

-- Own a session no longer.
create or replace function aiocheckpoint.disown(p_id bytea, p_token bigint)
returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    v_key bigint;
begin
    v_key := aiocheckpoint.lock_session(p_id, true, false);
    delete from aiocheckpoint.session
        where session_key = v_key and owner_token = p_token and checkpoints = 0;
    update aiocheckpoint.session
        set owner_token = null, owner_holder = null, owned_until = null
        where session_key = v_key and owner_token = p_token;
end $$;

-- Remove what was saved longer ago than that, but for the newest of each session, so many, which
-- may be 0; return how many checkpoints are gone. Owners that died with nothing saved go, too. For
-- a job of the database, in pieces: call it until it returns 0.
create or replace function aiocheckpoint.remove_older(
    p_age interval, p_keep integer default 1, p_sessions integer default 1000
)
returns bigint language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    v_before timestamptz := clock_timestamp() - p_age;
    v_total bigint := 0;
    v_session aiocheckpoint.session;
    v_count bigint;
begin
    if not coalesce(p_age >= interval '0' and p_keep >= 0 and p_sessions >= 1, false) then
        raise exception 'p_age and p_keep must not be negative, p_sessions at least 1, none null'
            using errcode = 'invalid_parameter_value';
    end if;
    for v_session in
        select * from aiocheckpoint.session s
        where exists (
            select from aiocheckpoint.checkpoint c
            where c.session_key = s.session_key and c.saved_at < v_before
        ) and s.checkpoints > p_keep
        order by session_id limit p_sessions for update skip locked
    loop
        v_count := aiocheckpoint.remove(v_session.session_key, array(
            select seq from aiocheckpoint.checkpoint
            where session_key = v_session.session_key and saved_at < v_before
            order by seq limit v_session.checkpoints - p_keep
        ));
        perform aiocheckpoint.close_session(
            v_session.session_key, v_session.last_seq, v_session.last_saved_at,
            v_session.checkpoints - v_count
        );
        v_total := v_total + v_count;
    end loop;
    delete from aiocheckpoint.session
        where session_key in (
            select session_key from aiocheckpoint.session
            where checkpoints = 0 and owned_until < v_before for update skip locked
        );
    return v_total;
end $$;
