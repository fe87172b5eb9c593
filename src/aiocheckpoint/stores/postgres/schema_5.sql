-- Version 5: functions alone. A commit looks at all that its content needs by one statement.

drop function if exists aiocheckpoint.is_whole(bigint, bigint, bytea);

insert into aiocheckpoint.schema_version values (5);
