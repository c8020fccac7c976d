-- case: legacy window on cdc
-- compare: multiset
-- features: legacy,window,on,cdc
CREATE TABLE r (u STRING, rate INT, ts TIMESTAMP(3), PRIMARY KEY (u) NOT ENFORCED, WATERMARK FOR ts AS ts) WITH ('connector'='kafka', 'topic'='r', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE out1 (n BIGINT, s INT) WITH ('connector'='print', 'print-identifier'='out1');
INSERT INTO out1 SELECT COUNT(*), SUM(rate) FROM r GROUP BY TUMBLE(ts, INTERVAL '10' SECOND);
