-- Version 8: functions alone. A listing tells what is over the limit of a reader, and a wait
-- for a token that is given up warns of nothing.

insert into aiocheckpoint.schema_version values (8);
