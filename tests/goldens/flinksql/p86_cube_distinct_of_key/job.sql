-- case: COUNT(DISTINCT key) of a CUBE
-- compare: steps
-- features: aggregate,cube
CREATE TABLE d (x INT, y INT, s STRING) WITH ('connector'='kafka', 'topic'='d', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE o_0019 (f0 INT, f1 STRING, f2 BIGINT, f3 BIGINT) WITH ('connector'='print', 'print-identifier'='o_0019');
INSERT INTO o_0019 SELECT y AS c2, s AS c3, COUNT(DISTINCT s) AS c4, GROUPING_ID(y, s) AS c5 FROM d a1 GROUP BY CUBE (y, s);
