-- case: correlated count
-- compare: steps
-- features: correlated,count
CREATE TABLE o (id INT, cust INT, amount INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='o', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE c (id INT, name STRING, region STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='c', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE out1 (id INT, n BIGINT) WITH ('connector'='print', 'print-identifier'='out1');
INSERT INTO out1 SELECT c.id, (SELECT COUNT(*) FROM o WHERE o.cust = c.id) FROM c;
