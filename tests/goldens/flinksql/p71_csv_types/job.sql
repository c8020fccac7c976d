-- case: csv: each type against texts that are and are not of it
-- compare: exact
-- features: csv,ignore-parse-errors
CREATE TABLE src (n INT, b BOOLEAN, t1 TINYINT, s2 SMALLINT, i4 INT, i8 BIGINT, f4 FLOAT, f8 DOUBLE, d DECIMAL(10, 2), st STRING, vc VARCHAR(4), ch CHAR(3), dt DATE, tm TIME, tm3 TIME(3), ts TIMESTAMP(3), ts9 TIMESTAMP(9), tz TIMESTAMP_LTZ(3), bi BYTES, ai ARRAY<INT>, ast ARRAY<STRING>) WITH ('connector'='kafka', 'topic'='t', 'properties.bootstrap.servers'='k:1', 'scan.startup.mode'='earliest-offset', 'format'='csv', 'csv.ignore-parse-errors'='true');
CREATE TABLE o (n INT, b BOOLEAN, t1 TINYINT, s2 SMALLINT, i4 INT, i8 BIGINT, f4 FLOAT, f8 DOUBLE, d DECIMAL(10, 2), st STRING, vc VARCHAR(4), ch CHAR(3), dt DATE, tm TIME, tm3 TIME(3), ts TIMESTAMP(3), ts9 TIMESTAMP(9), tz TIMESTAMP_LTZ(3), bi BYTES, ai ARRAY<INT>, ast ARRAY<STRING>) WITH ('connector'='print', 'print-identifier'='o');
INSERT INTO o SELECT n, b, t1, s2, i4, i8, f4, f8, d, st, vc, ch, dt, tm, tm3, ts, ts9, tz, bi, ai, ast FROM src;
