-- Version 3: functions alone. A read asks for all that its work is about to ask at once.
insert into aiocheckpoint.schema_version values (3);
