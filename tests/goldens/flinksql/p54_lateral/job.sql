-- case: lateral
-- compare: steps
-- features: lateral
CREATE TABLE o (id INT, cust INT, amount INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='o', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE c (id INT, name STRING, region STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='c', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE out1 (id INT, t INT) WITH ('connector'='print', 'print-identifier'='out1');
INSERT INTO out1 SELECT c.id, t FROM c LEFT JOIN LATERAL (SELECT MAX(amount) AS t FROM o WHERE o.cust = c.id) ON TRUE;
