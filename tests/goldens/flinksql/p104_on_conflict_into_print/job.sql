-- case: ON CONFLICT into a print table
-- compare: final
SET 'millstream.compat.strict' = 'true';
CREATE TABLE s (id INT, a STRING, b INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='filesystem','path'='${DIR}/s.jsonl','format'='debezium-json');
CREATE TABLE ev (id INT, k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector'='filesystem','path'='${DIR}/ev.jsonl','format'='json');
CREATE TABLE o (id INT) WITH ('connector'='print','print-identifier'='o');
CREATE TABLE o2 (a STRING, n BIGINT) WITH ('connector'='print','print-identifier'='o2');
INSERT INTO o2 SELECT a, COUNT(*) FROM s GROUP BY a ON CONFLICT DO DEDUPLICATE;
