-- Version 2: bodies in a table of their own, compressed by the client, most against an earlier one.

-- Whoever changes a session locks its row first: nothing is saved to what is copied below.
lock table aiocheckpoint.session in exclusive mode;

-- What was saved: a document as it is, or a frame of zstd, which begins with 28 B5 2F FD. A frame
-- may need the body of base_seq as its prefix (--patch-from of zstd). It stays as long as its
-- checkpoint, or as long as another one that needs it.
create table aiocheckpoint.body (
    session_key bigint not null,
    seq bigint not null,
    base_seq bigint,
    sha256 bytea not null,
    content bytea not null,
    primary key (session_key, seq)
);

-- Two in a page need no pieces elsewhere, which cost more log.
alter table aiocheckpoint.body set (toast_tuple_target = 4080);

do $$
begin
    execute 'alter table aiocheckpoint.body alter column content set compression lz4';
exception when others then
    null;
end $$;

insert into aiocheckpoint.body (session_key, seq, sha256, content)
    select session_key, seq, body_sha256, body from aiocheckpoint.checkpoint;

alter table aiocheckpoint.checkpoint drop column body, drop column body_sha256;

-- What a content in the quarantine needs, the first one first; null where it needs nothing.
alter table aiocheckpoint.quarantine add column bases bytea[];

-- Clients of version 1 are to fail by name.
drop function if exists aiocheckpoint.apply(
    bigint, bigint, integer, bigint, bytea[], integer[], smallint[], bigint[], smallint[], bytea[],
    bytea[], timestamptz[], bigint[], bytea[], bytea[], bytea[], bytea[], integer[],
    bytea[], bytea[], integer[], bytea[], bytea[], integer[]
);

insert into aiocheckpoint.schema_version values (2);
