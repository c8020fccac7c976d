-- The star schema of the classicmodels shop, kept up to date from the change events of its tables.
-- Valid Flink SQL as it stands. Dates come from Debezium as days since 1970-01-01; decimals as text
-- (decimal.handling.mode=string), which reads as DECIMAL.
SET 'pipeline.name' = 'star_schema';
-- Flink 2.3 wants to know what to do when a join's result meets another row of the same target key; updates of
-- one product are such a case for it.
SET 'table.exec.sink.require-on-conflict' = 'false';

-- Sources: one topic a table.

CREATE TABLE source_customers (
  `customerNumber`   INT,
  `customerName`     STRING,
  `contactLastName`  STRING,
  `contactFirstName` STRING,
  `city`             STRING,
  `state`            STRING,
  `country`          STRING,
  `creditLimit`      DECIMAL(10, 2),
  `event_time`       TIMESTAMP(3) METADATA FROM 'timestamp',
  PRIMARY KEY (`customerNumber`) NOT ENFORCED
) WITH (
  'connector' = 'kafka',
  'topic' = 'dbserver1.classicmodels.customers',
  'properties.bootstrap.servers' = 'kafka:9092',
  'properties.group.id' = 'star_schema',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'debezium-json',
  'debezium-json.schema-include' = 'true'
);

CREATE TABLE source_productlines (
  `productLine`     STRING,
  `textDescription` STRING,
  PRIMARY KEY (`productLine`) NOT ENFORCED
) WITH (
  'connector' = 'kafka',
  'topic' = 'dbserver1.classicmodels.productlines',
  'properties.bootstrap.servers' = 'kafka:9092',
  'properties.group.id' = 'star_schema',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'debezium-json',
  'debezium-json.schema-include' = 'true'
);

CREATE TABLE source_products (
  `productCode`     STRING,
  `productName`     STRING,
  `productLine`     STRING,
  `productScale`    STRING,
  `productVendor`   STRING,
  `quantityInStock` INT,
  `buyPrice`        DECIMAL(10, 2),
  `MSRP`            DECIMAL(10, 2),
  PRIMARY KEY (`productCode`) NOT ENFORCED
) WITH (
  'connector' = 'kafka',
  'topic' = 'dbserver1.classicmodels.products',
  'properties.bootstrap.servers' = 'kafka:9092',
  'properties.group.id' = 'star_schema',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'debezium-json',
  'debezium-json.schema-include' = 'true'
);

CREATE TABLE source_orders (
  `orderNumber`    INT,
  `orderDate`      INT,
  `requiredDate`   INT,
  `shippedDate`    INT,
  `status`         STRING,
  `customerNumber` INT,
  PRIMARY KEY (`orderNumber`) NOT ENFORCED
) WITH (
  'connector' = 'kafka',
  'topic' = 'dbserver1.classicmodels.orders',
  'properties.bootstrap.servers' = 'kafka:9092',
  'properties.group.id' = 'star_schema',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'debezium-json',
  'debezium-json.schema-include' = 'true'
);

CREATE TABLE source_orderdetails (
  `orderNumber`     INT,
  `productCode`     STRING,
  `quantityOrdered` INT,
  `priceEach`       DECIMAL(10, 2),
  `orderLineNumber` SMALLINT,
  `event_time`      TIMESTAMP(3) METADATA FROM 'timestamp',
  PRIMARY KEY (`orderNumber`, `productCode`) NOT ENFORCED
) WITH (
  'connector' = 'kafka',
  'topic' = 'dbserver1.classicmodels.orderdetails',
  'properties.bootstrap.servers' = 'kafka:9092',
  'properties.group.id' = 'star_schema',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'debezium-json',
  'debezium-json.schema-include' = 'true'
);

-- Targets: tables in PostgreSQL, written by primary key.

CREATE TABLE dim_customers (
  customer_key  INT,
  customer_name STRING,
  contact_name  STRING,
  city          STRING,
  state         STRING,
  country       STRING,
  credit_limit  DECIMAL(10, 2),
  updated_at    TIMESTAMP(3),
  PRIMARY KEY (customer_key) NOT ENFORCED
) WITH (
  'connector' = 'jdbc',
  'url' = 'jdbc:postgresql://target-db:5432/warehouse',
  'table-name' = 'classicmodels_star_schema.dim_customers',
  'username' = 'millstream_target',
  'password' = 'target-demo'
);

CREATE TABLE dim_products (
  product_key      STRING,
  product_name     STRING,
  product_line     STRING,
  line_description STRING,
  product_scale    STRING,
  product_vendor   STRING,
  quantity_stock   INT,
  buy_price        DECIMAL(10, 2),
  msrp             DECIMAL(10, 2),
  PRIMARY KEY (product_key) NOT ENFORCED
) WITH (
  'connector' = 'jdbc',
  'url' = 'jdbc:postgresql://target-db:5432/warehouse',
  'table-name' = 'classicmodels_star_schema.dim_products',
  'username' = 'millstream_target',
  'password' = 'target-demo'
);

CREATE TABLE fact_orders (
  order_number  INT,
  product_key   STRING,
  order_line    SMALLINT,
  customer_key  INT,
  order_date    DATE,
  required_date DATE,
  shipped_date  DATE,
  status        STRING,
  quantity      INT,
  price_each    DECIMAL(10, 2),
  amount        DECIMAL(14, 2),
  updated_at    TIMESTAMP(3),
  PRIMARY KEY (order_number, product_key) NOT ENFORCED
) WITH (
  'connector' = 'jdbc',
  'url' = 'jdbc:postgresql://target-db:5432/warehouse',
  'table-name' = 'classicmodels_star_schema.fact_orders',
  'username' = 'millstream_target',
  'password' = 'target-demo'
);

EXECUTE STATEMENT SET
BEGIN

INSERT INTO dim_customers (customer_key, customer_name, contact_name, city, state, country, credit_limit, updated_at)
SELECT `customerNumber`, `customerName`, `contactFirstName` || ' ' || `contactLastName`, `city`, `state`, `country`,
       `creditLimit`, `event_time`
FROM source_customers;

-- No event time here. This join's key is not the target's, so Flink finds the row to take back by its full
-- content; with the time of the newer event in it, it would not find it, and a deleted product would stay.
INSERT INTO dim_products
SELECT p.`productCode`, p.`productName`, p.`productLine`, l.`textDescription`, p.`productScale`, p.`productVendor`,
       p.`quantityInStock`, p.`buyPrice`, p.`MSRP`
FROM source_products AS p
JOIN source_productlines AS l ON p.`productLine` = l.`productLine`;

INSERT INTO fact_orders
SELECT d.`orderNumber`, d.`productCode`, d.`orderLineNumber`, o.`customerNumber`,
       TIMESTAMPADD(DAY, o.`orderDate`, DATE '1970-01-01'),
       TIMESTAMPADD(DAY, o.`requiredDate`, DATE '1970-01-01'),
       TIMESTAMPADD(DAY, o.`shippedDate`, DATE '1970-01-01'),
       o.`status`, d.`quantityOrdered`, d.`priceEach`,
       CAST(d.`quantityOrdered` * d.`priceEach` AS DECIMAL(14, 2)), d.`event_time`
FROM source_orderdetails AS d
JOIN source_orders AS o ON o.`orderNumber` = d.`orderNumber`;

END;
