-- case: EXISTS over an aggregation without groups is TRUE
-- compare: final
CREATE TABLE s (id INT, a STRING, b INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='filesystem','path'='${DIR}/s.jsonl','format'='debezium-json');
CREATE TABLE q (k INT, n INT) WITH ('connector'='filesystem','path'='${DIR}/q.jsonl','format'='json');
CREATE TABLE o (id INT) WITH ('connector'='print','print-identifier'='o');
INSERT INTO o SELECT id FROM s WHERE EXISTS (SELECT COUNT(*) FROM q WHERE q.k = s.b);
