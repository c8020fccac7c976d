-- case: in inside or
-- compare: steps
-- features: in,inside,or
CREATE TABLE o (id INT, cust INT, amount INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='o', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE c (id INT, name STRING, region STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='c', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE out1 (id INT) WITH ('connector'='print', 'print-identifier'='out1');
INSERT INTO out1 SELECT id FROM o WHERE cust IN (SELECT id FROM c) OR amount > 8;
