-- Version 8: functions alone. A listing tells what is over the limit of a reader.

insert into aiocheckpoint.schema_version values (8);
