-- case: a derived table in a subquery depends on the query around
-- compare: final
CREATE TABLE s (id INT, a STRING, b INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='filesystem','path'='${DIR}/s.jsonl','format'='debezium-json');
CREATE TABLE q (id INT, n INT) WITH ('connector'='filesystem','path'='${DIR}/q.jsonl','format'='json');
CREATE TABLE o (id INT) WITH ('connector'='print','print-identifier'='o');
INSERT INTO o SELECT id FROM s WHERE EXISTS (SELECT 1 FROM (SELECT id AS i2 FROM q WHERE q.n < s.v) x WHERE x.i2 = s.id);
