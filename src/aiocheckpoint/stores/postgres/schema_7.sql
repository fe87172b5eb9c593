-- Version 7: functions alone. `remove_older` refuses arguments that make no sense.

insert into aiocheckpoint.schema_version values (7);
