-- case: lists of values that are taken back, of equal ones and of ones that never came
-- compare: exact
-- features: group-by,retraction,first-value,last-value,listagg,array-agg
CREATE TABLE s (id INT, k STRING, v INT) WITH ('connector'='filesystem', 'path'='${DIR}/sales.jsonl', 'format'='debezium-json');
CREATE TABLE o1 (k STRING, n BIGINT, f INT, l INT, lst STRING, js STRING) WITH ('connector'='print', 'print-identifier'='o1');
CREATE TABLE o2 (k STRING, a ARRAY<INT>, c MULTISET<INT>) WITH ('connector'='print', 'print-identifier'='o2');
INSERT INTO o1 SELECT k, COUNT(*), FIRST_VALUE(v), LAST_VALUE(v), LISTAGG(CAST(v AS STRING), '|'), JSON_ARRAYAGG(v NULL ON NULL) FROM s GROUP BY k;
INSERT INTO o2 SELECT k, ARRAY_AGG(v), COLLECT(v) FROM s GROUP BY k;
