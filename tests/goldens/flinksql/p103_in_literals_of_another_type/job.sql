-- case: IN takes literals in the type of the value
-- compare: exact
CREATE TABLE s (id INT, a STRING, b INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='filesystem','path'='${DIR}/s.jsonl','format'='debezium-json');
CREATE TABLE o (id INT) WITH ('connector'='print','print-identifier'='o');
INSERT INTO o SELECT id FROM s WHERE id IN (1, 4294967298);
