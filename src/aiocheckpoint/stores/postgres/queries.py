"""What the database is asked; written for schema "aiocheckpoint"."""

from __future__ import annotations

PAGE = 500
_PAGE_BYTES = 8 << 20

_KEY = """(
    select session_key from aiocheckpoint.session
    where substring(session_id from 1 for 1000) = substring($1::bytea from 1 for 1000)
    and session_id = $1
)"""
_IS_ID = """
    substring(checkpoint_id from 1 for 1000) = substring($2::bytea from 1 for 1000)
    and checkpoint_id = $2
"""
_META = """
    checkpoint_id, saved_at, created_at, iteration, trigger, checksum,
    aiocheckpoint.document_bytes(session_key, seq) as size_bytes
"""
_PARTS = "aiocheckpoint.parts(session_key, seq) as parts"
# The rare times and numbers that the columns cannot hold are told from the body.
_META_BODY = """
    case when created_at is null or iteration is null then
        case when aiocheckpoint.is_whole(session_key, seq)
            then aiocheckpoint.parts(session_key, seq) else '{}' end
    end as parts
"""

LOAD = f"""
select checkpoint_id, seq, {_PARTS} from aiocheckpoint.checkpoint
    where session_key = {_KEY} and {_IS_ID}
"""
LOAD_NEWEST = f"""
select checkpoint_id, seq, {_PARTS} from aiocheckpoint.checkpoint
    where session_key = {_KEY} order by seq desc limit 1
"""
LOAD_MANY = f"""
select checkpoint_id, seq, {_PARTS} from aiocheckpoint.checkpoint
    where session_key = {_KEY} and checkpoint_id = any ($2)
    and substring(checkpoint_id from 1 for 1000)
        in (select substring(n from 1 for 1000) from unnest($2::bytea[]) n)
    order by seq
"""
LIST = f"""
select {_META}, {_META_BODY} from aiocheckpoint.checkpoint
    where session_key = {_KEY} order by seq desc limit $2
"""
LIST_BEFORE = f"""
select {_META}, {_META_BODY} from aiocheckpoint.checkpoint
    where session_key = {_KEY} and seq < (
        select seq from aiocheckpoint.checkpoint where session_key = {_KEY} and {_IS_ID}
    ) order by seq desc limit $3
"""
IDS = f"""
select checkpoint_id from aiocheckpoint.checkpoint
    where session_key = {_KEY}
    and substring(checkpoint_id from 1 for 1000) >= substring($2::bytea from 1 for 1000)
    and checkpoint_id >= $2
    and ($3::bytea is null or (
        substring(checkpoint_id from 1 for 1000) <= substring($3 from 1 for 1000)
        and checkpoint_id < $3
    ))
    order by substring(checkpoint_id from 1 for 1000) desc, checkpoint_id desc limit $4
"""
# As few as are asked for are found by the order, without a look at all that have the prefix.
SAVED_IDS = f"""
select checkpoint_id from aiocheckpoint.checkpoint
    where session_key = {_KEY} and checkpoint_id >= $2 and ($3::bytea is null or checkpoint_id < $3)
    order by seq desc limit $4
"""
BLOBS = f"""
select digest, content from aiocheckpoint.blob
    where session_key = {_KEY} and digest = any ($2)
"""
LOOK_AHEAD = "select * from aiocheckpoint.look_ahead($1, $2, $3, $4, $5)"
_SESSION_PAGE = """
    substring(s.session_id from 1 for 1000) >= substring($1::bytea from 1 for 1000)
    and ($2::bytea is null or (
        substring(s.session_id from 1 for 1000) >= substring($2 from 1 for 1000)
        and s.session_id > $2
    ))
    and s.session_id >= $1
    and ($3::bytea is null or (
        substring(s.session_id from 1 for 1000) <= substring($3 from 1 for 1000)
        and s.session_id < $3
    ))
"""
SESSIONS = f"""
select session_id from aiocheckpoint.session s where {_SESSION_PAGE} and checkpoints > 0
    order by substring(session_id from 1 for 1000), session_id limit $4
"""
# Of one that is damaged, nobody can tell that it is final: the server looks at all that say so.
UNFINISHED = f"""
select s.session_id, c.* from aiocheckpoint.session s cross join lateral (
    select {_META}, {_META_BODY},
        trigger = any ($5::bytea[]) and not aiocheckpoint.is_whole(session_key, seq) as is_damaged,
        trigger = any ($5::bytea[]) as is_final
    from aiocheckpoint.checkpoint c
    where c.session_key = s.session_key order by seq desc limit 1
) c where {_SESSION_PAGE} and (is_damaged or not is_final or size_bytes > $6)
    order by substring(session_id from 1 for 1000), session_id limit $4
"""
NEWEST_OF_MANY = f"""
select s.session_id, c.* from unnest($1::bytea[]) with ordinality as wanted (id, position)
    join aiocheckpoint.session s on s.session_id = wanted.id
    and substring(s.session_id from 1 for 1000) = substring(wanted.id from 1 for 1000)
    cross join lateral (
        select checkpoint_id, seq, {_PARTS} from aiocheckpoint.checkpoint c
        where c.session_key = s.session_key order by seq desc limit 1
    ) c order by position
"""
_PAGE_OF_ROWS = f"""
select seq, checkpoint_id, saved_at from (
    select *, sum(size) over (order by place) as total from (
        select seq, checkpoint_id, saved_at, seq * {{sign}} as place, (
            select octet_length(content) from aiocheckpoint.body b
            where b.session_key = c.session_key and b.seq = c.seq
        ) as size from aiocheckpoint.checkpoint c
        where session_key = {_KEY} and {{bound}} order by seq {{order}} limit 256
    ) page
) sized where coalesce(total - size, 0) < {_PAGE_BYTES} order by place
"""
ROWS = _PAGE_OF_ROWS.format(sign=1, bound="seq > $2", order="asc")
ROWS_BACK = _PAGE_OF_ROWS.format(sign=-1, bound="seq < $2", order="desc")
NEWEST_SEQ = f"""
select seq from aiocheckpoint.checkpoint where session_key = {_KEY} order by seq desc limit 1
"""
# Each once, however many of them need it; and which of the checkpoints are there still.
BODIES = f"""
select seq, null as base_seq, null::bytea as content, true as is_checkpoint
    from aiocheckpoint.checkpoint where session_key = {_KEY} and seq = any ($2)
union all
select seq, base_seq, content, false from aiocheckpoint.bodies({_KEY}, $2)
"""
BLOB_DIGESTS = f"""
select digest, octet_length(content) as size from aiocheckpoint.blob
    where session_key = {_KEY} and digest > $2 order by digest limit 256
"""
LAST_SEQ = 2**63 - 1

# Health

ALL_SESSIONS = """
select session_key, session_id from aiocheckpoint.session
    where session_key > $1 and session_key <= $2 order by session_key limit 500
"""
NEWEST_SESSION = """
select session_key from aiocheckpoint.session order by session_key desc limit 1
"""
# One query sees one state, also of a session that is being changed.
MISSING = f"""
select digest from (
    select digest from aiocheckpoint.blob_use where session_key = {_KEY}
    union select digest from aiocheckpoint.blob_link where session_key = {_KEY}
) named where not exists (
    select from aiocheckpoint.blob b where b.session_key = {_KEY} and b.digest = named.digest
) order by digest
"""
USERS = f"""
with recursive led_to (digest) as (
    select unnest($2::bytea[])
    union select l.named_by from aiocheckpoint.blob_link l join led_to on l.digest = led_to.digest
        where l.session_key = {_KEY}
)
select distinct c.seq, c.saved_at, c.checkpoint_id from led_to
    join aiocheckpoint.blob_use u on u.session_key = {_KEY} and u.digest = led_to.digest
    join aiocheckpoint.checkpoint c on c.session_key = u.session_key and c.seq = u.seq
    order by c.seq
"""
UNUSED = f"""
select digest from aiocheckpoint.blob b
    where session_key = {_KEY} and not exists (
        select from aiocheckpoint.blob_use u
        where u.session_key = b.session_key and u.digest = b.digest
    ) and not exists (
        select from aiocheckpoint.blob_link l
        where l.session_key = b.session_key and l.digest = b.digest
    ) order by digest
"""
PUT_ASIDE = "select aiocheckpoint.put_aside($1, $2, $3, $4, $5, $6, $7, $8)"

# Within an update, whose row of the session is locked.

# The oldest checkpoints but for some, as far as there are more than there is room for.
DOOMED = """
select checkpoint_id from aiocheckpoint.checkpoint
where session_key = $1 and checkpoint_id <> all ($2::bytea[])
order by seq
limit greatest(0, (
    select checkpoints from aiocheckpoint.session where session_key = $1
) - (
    select count(*) from aiocheckpoint.checkpoint
    where session_key = $1 and checkpoint_id = any ($2::bytea[])
    and substring(checkpoint_id from 1 for 1000) in (
        select substring(n from 1 for 1000) from unnest($2::bytea[]) n
    )
) - $3::bigint)
"""

# No checkpoint has this place: what is named there is held, and let go before the commit.
HOLD = """
insert into aiocheckpoint.blob_use (session_key, digest, seq)
select $1, d, -1 from unnest($2::bytea[]) d
"""
HELD = """
with held as (
    delete from aiocheckpoint.blob_use
    where session_key = $1 and seq = -1 returning digest
)
select array_agg(digest) from held
"""
LET_GO = "select aiocheckpoint.collect($1, $2)"
