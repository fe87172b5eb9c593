-- Version 3: functions alone. A read asks at once for all that its work is about to ask.

drop function if exists aiocheckpoint.is_whole(bigint, bigint);

insert into aiocheckpoint.schema_version values (3);
