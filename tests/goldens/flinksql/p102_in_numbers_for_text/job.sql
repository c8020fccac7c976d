-- case: IN takes numbers beside a text as texts
-- compare: final
CREATE TABLE s (id INT, a STRING, b INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='filesystem','path'='${DIR}/s.jsonl','format'='debezium-json');
CREATE TABLE o (id INT) WITH ('connector'='print','print-identifier'='o');
INSERT INTO o SELECT id FROM s WHERE a IN (1, 2);
