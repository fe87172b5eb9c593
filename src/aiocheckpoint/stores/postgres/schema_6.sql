-- Version 6: functions, and where tokens go on. Blobs that are damaged are stored anew by who gives them, and tokens of
-- owners are at least the milliseconds since 1970; they began with the number of a timeline before.

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

insert into aiocheckpoint.schema_version values (6);
