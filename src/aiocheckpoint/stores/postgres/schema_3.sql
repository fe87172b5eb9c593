-- Version 3: functions, and where tokens go on. A read asks at once for all that its work is about to
-- ask, a commit takes half as many statements, a damaged blob is stored anew by who gives it.

-- Clients of an older version are to fail by name.
drop function if exists aiocheckpoint.apply(
    bigint, bigint, integer, bigint, bytea[], integer[], smallint[], bigint[], smallint[], bytea[],
    bytea[], timestamptz[], bigint[], bytea[], bytea[], bytea[], bytea[], bigint[], bytea[],
    bytea[], integer[], bytea[], bytea[], integer[], bytea[], bytea[], integer[]
);

-- Tokens of owners are at least the milliseconds since 1970; they began with the number of a timeline.
do $$
declare
    v_last bigint;
    v_was_used boolean;
begin
    select last_value, is_called into v_last, v_was_used from aiocheckpoint.owner_token;
    if v_was_used then
        perform setval('aiocheckpoint.owner_token', v_last + (
            ('x' || substring(pg_walfile_name(pg_current_wal_lsn()) from 1 for 8))::bit(32)::bigint
            << 40
        ));
    end if;
end $$;

insert into aiocheckpoint.schema_version values (3);
