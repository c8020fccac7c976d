-- case: a correlated subquery as a value finds two rows
-- compare: error
CREATE TABLE s (id INT, a STRING, b INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='filesystem','path'='${DIR}/s.jsonl','format'='debezium-json');
CREATE TABLE q (k INT, n STRING) WITH ('connector'='filesystem','path'='${DIR}/q.jsonl','format'='json');
CREATE TABLE o (id INT, n STRING) WITH ('connector'='print','print-identifier'='o');
INSERT INTO o SELECT id, (SELECT n FROM q WHERE q.k = s.b) FROM s;
