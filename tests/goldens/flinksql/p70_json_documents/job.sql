-- case: json documents: arrays of objects, what follows a value, what is none
-- compare: exact
-- features: json,ignore-parse-errors
CREATE TABLE src (a INT, b STRING, r ROW<x INT, y STRING>) WITH ('connector'='filesystem', 'path'='${DIR}/in.jsonl', 'format'='json', 'json.ignore-parse-errors'='true', 'json.decode.json-parser.enabled'='true');
CREATE TABLE o (a INT, b STRING, r ROW<x INT, y STRING>) WITH ('connector'='print', 'print-identifier'='o');
INSERT INTO o SELECT * FROM src;
