-- case: equality of DECIMALs of other scales, and of INT with DECIMAL, as a join key
-- compare: exact
-- features: join,decimal
CREATE TABLE a (id INT, d DECIMAL(10,2), i INT) WITH ('connector'='filesystem', 'path'='${DIR}/a.jsonl', 'format'='json');
CREATE TABLE b (id INT, e DECIMAL(12,4)) WITH ('connector'='filesystem', 'path'='${DIR}/b.jsonl', 'format'='json');
CREATE TABLE out_d (a INT, b INT) WITH ('connector'='print', 'print-identifier'='out_d');
CREATE TABLE out_i (a INT, b INT) WITH ('connector'='print', 'print-identifier'='out_i');
CREATE TABLE out_in (a INT) WITH ('connector'='print', 'print-identifier'='out_in');
INSERT INTO out_d SELECT a.id, b.id FROM a JOIN b ON a.d = b.e;
INSERT INTO out_i SELECT a.id, b.id FROM a JOIN b ON a.i = b.e;
INSERT INTO out_in SELECT id FROM a WHERE d IN (SELECT e FROM b);
