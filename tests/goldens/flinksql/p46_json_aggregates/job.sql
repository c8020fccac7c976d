-- case: json aggregates
-- compare: steps
-- features: json,aggregates
CREATE TABLE k (id INT, u STRING, v INT, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('connector'='kafka', 'topic'='k', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE out1 (j STRING, j2 STRING) WITH ('connector'='print', 'print-identifier'='out1');
INSERT INTO out1 SELECT JSON_OBJECTAGG(KEY CAST(id AS STRING) VALUE v ABSENT ON NULL), JSON_ARRAYAGG(v NULL ON NULL) FROM k;
