-- case: csv: comments, null literal, spaces, quotes, missing and extra fields
-- compare: exact
-- features: csv
CREATE TABLE src (id INT, s STRING, a ARRAY<STRING>, v INT) WITH ('connector'='kafka', 'topic'='t', 'properties.bootstrap.servers'='k:1', 'scan.startup.mode'='earliest-offset', 'format'='csv', 'csv.field-delimiter'=';', 'csv.array-element-delimiter'='|', 'csv.ignore-parse-errors'='true', 'csv.allow-comments'='true', 'csv.null-literal'='n/a', 'csv.trim-spaces'='true');
CREATE TABLE o (id INT, s STRING, a ARRAY<STRING>, v INT) WITH ('connector'='print', 'print-identifier'='o');
INSERT INTO o SELECT * FROM src;
