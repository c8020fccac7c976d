-- case: IN inside OR, where NULLs may be on both sides
-- compare: steps
-- features: subquery
CREATE TABLE c (id INT, name STRING, region STRING, lim INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='c', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE d (x INT, y INT, s STRING) WITH ('connector'='kafka', 'topic'='d', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE o_0131 (f0 INT, f1 BIGINT, f2 BIGINT, f3 BIGINT) WITH ('connector'='print', 'print-identifier'='o_0131');
INSERT INTO o_0131 SELECT y AS c4, COUNT(DISTINCT x) AS c5, COUNT(x) AS c6, COUNT(*) FILTER (WHERE (x IS NULL AND s IS NULL)) AS c7 FROM (SELECT a1.x, a1.y, a1.s FROM d a1 WHERE (a1.x IN (SELECT a2.lim FROM (SELECT id, name, region, lim FROM c WHERE region <> 'y') a2) OR a1.x <= 5)) a3 GROUP BY y;
