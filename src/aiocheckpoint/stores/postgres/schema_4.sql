-- Version 4: functions alone. A commit takes half as many statements.

-- Clients of an older version are to fail by name.
drop function if exists aiocheckpoint.apply(
    bigint, bigint, integer, bigint, bytea[], integer[], smallint[], bigint[], smallint[], bytea[],
    bytea[], timestamptz[], bigint[], bytea[], bytea[], bytea[], bytea[], bigint[], bytea[],
    bytea[], integer[], bytea[], bytea[], integer[], bytea[], bytea[], integer[]
);

insert into aiocheckpoint.schema_version values (4);
