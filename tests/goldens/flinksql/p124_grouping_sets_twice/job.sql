-- case: a grouping set that stands twice comes out twice; CUBE and ROLLUP give each of theirs once
-- compare: final
-- features: grouping-sets,cube,rollup,group-id
CREATE TABLE s (id INT, a STRING, b INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='debezium-json');
CREATE TABLE twice (a STRING, n BIGINT, s INT) WITH ('connector'='print', 'print-identifier'='twice');
CREATE TABLE cube_ (a STRING, n BIGINT, s INT) WITH ('connector'='print', 'print-identifier'='cube_');
CREATE TABLE rollup_ (a STRING, n BIGINT, s INT) WITH ('connector'='print', 'print-identifier'='rollup_');
CREATE TABLE ids (a STRING, g BIGINT, e BIGINT, n BIGINT) WITH ('connector'='print', 'print-identifier'='ids');
INSERT INTO twice SELECT a, COUNT(*), SUM(v) FROM s GROUP BY GROUPING SETS ((a), (a));
INSERT INTO cube_ SELECT a, COUNT(*), SUM(v) FROM s GROUP BY CUBE (a, a);
INSERT INTO rollup_ SELECT a, COUNT(*), SUM(v) FROM s GROUP BY ROLLUP (a, a);
INSERT INTO ids SELECT a, GROUP_ID(), GROUPING(a), COUNT(*) FROM s GROUP BY GROUPING SETS ((a), (a), ());
