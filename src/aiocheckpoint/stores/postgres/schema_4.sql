-- Version 4: functions. A save that has a commit to itself takes a shorter way, and no plan of a
-- commit looks through a whole table, however small it was when the plan was made.

insert into aiocheckpoint.schema_version values (4);
