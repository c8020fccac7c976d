-- case: csv: rows and arrays within a field
-- compare: exact
-- features: csv,row,array
CREATE TABLE src (id INT, r ROW<a INT, b STRING>, ar ARRAY<INT>) WITH ('connector'='filesystem', 'path'='${DIR}/in.csv', 'format'='csv', 'csv.field-delimiter'='\t', 'csv.ignore-parse-errors'='true');
CREATE TABLE o (id INT, r ROW<a INT, b STRING>, ar ARRAY<INT>) WITH ('connector'='print', 'print-identifier'='o');
INSERT INTO o SELECT * FROM src;
