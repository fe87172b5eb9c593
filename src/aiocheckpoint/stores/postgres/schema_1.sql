-- Version 1 of the schema. Names are written as of schema "aiocheckpoint"; another is put in their
-- place. Ids, triggers and bodies are bytea: UTF-8 as it was given, whatever the encoding of the
-- database, and with NUL. An id is found by its first 1000 bytes, for an index holds no more than
-- about 2700; equality is always that of the whole.

create schema if not exists aiocheckpoint;

-- One row a session. Whoever changes a session locks its row first, and sessions in the order of
-- their ids; so changes of a session have one order, and nobody waits in a circle.
create table aiocheckpoint.session (
    session_key bigint generated always as identity primary key,
    session_id bytea not null,
    last_seq bigint not null default 0,
    last_saved_at timestamptz not null default '-infinity',
    checkpoints bigint not null default 0,
    owner_token bigint,
    owner_holder bigint,
    owned_until timestamptz
) with (fillfactor = 70);

create unique index session_by_id on aiocheckpoint.session (
    substring(session_id from 1 for 1000),
    (case when octet_length(session_id) > 1000 then sha256(session_id) else ''::bytea end)
);

-- One row a checkpoint: the newest of a session is that of the greatest seq.
create table aiocheckpoint.checkpoint (
    session_key bigint not null,
    seq bigint not null,
    checkpoint_id bytea not null,
    saved_at timestamptz not null,
    created_at timestamptz,
    iteration bigint,
    trigger bytea not null,
    checksum bytea not null,
    blob_digests bytea[],
    body_sha256 bytea not null,
    body bytea not null,
    primary key (session_key, seq)
);

create unique index checkpoint_by_id on aiocheckpoint.checkpoint (
    session_key,
    substring(checkpoint_id from 1 for 1000),
    (case when octet_length(checkpoint_id) > 1000 then sha256(checkpoint_id) else ''::bytea end)
);

create table aiocheckpoint.blob (
    session_key bigint not null,
    digest bytea not null,
    links bytea[],
    content bytea not null,
    primary key (session_key, digest)
);

-- Which checkpoints, and which other blobs, name a blob; it goes with the last of them.
create table aiocheckpoint.blob_use (
    session_key bigint not null,
    digest bytea not null,
    seq bigint not null,
    primary key (session_key, digest, seq)
);

create table aiocheckpoint.blob_link (
    session_key bigint not null,
    digest bytea not null,
    named_by bytea not null,
    primary key (session_key, digest, named_by)
);

-- What `recover` has put aside. Nothing reads it but people.
create table aiocheckpoint.quarantine (
    quarantine_id bigint generated always as identity primary key,
    moved_at timestamptz not null default clock_timestamp(),
    kind text not null,
    reason text not null,
    session_id bytea not null,
    checkpoint_id bytea,
    seq bigint,
    saved_at timestamptz,
    digest bytea,
    content bytea
);

-- The last commit of each of those that commit, one row for each connection that they use. A
-- client whose connection is cut asks here what became of its commit.
create table aiocheckpoint.writer (
    writer_id bigint primary key,
    batch bigint not null,
    outcomes bytea[] not null,
    updated_at timestamptz not null
) with (fillfactor = 50);

create sequence aiocheckpoint.owner_token;

-- A faster compression where the server has it; 13 does not know the word.
do $$
begin
    execute 'alter table aiocheckpoint.checkpoint alter column body set compression lz4';
    execute 'alter table aiocheckpoint.blob alter column content set compression lz4';
exception when others then
    null;
end $$;

create table aiocheckpoint.schema_version (version integer primary key);
insert into aiocheckpoint.schema_version values (1);
