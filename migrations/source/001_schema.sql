-- The source: the classicmodels shop. Column names are camelCase, as the well-known sample has them, so they
-- have to be quoted here and come out in events exactly as written.
CREATE SCHEMA classicmodels;
SET search_path TO classicmodels;

CREATE TABLE productlines (
  "productLine"      varchar(50) PRIMARY KEY,
  "textDescription"  varchar(4000),
  "htmlDescription"  text,
  image              bytea
);

CREATE TABLE products (
  "productCode"        varchar(15) PRIMARY KEY,
  "productName"        varchar(70) NOT NULL,
  "productLine"        varchar(50) NOT NULL REFERENCES productlines ON UPDATE CASCADE,
  "productScale"       varchar(10) NOT NULL,
  "productVendor"      varchar(50) NOT NULL,
  "productDescription" text NOT NULL,
  "quantityInStock"    integer NOT NULL,
  "buyPrice"           numeric(10,2) NOT NULL,
  "MSRP"               numeric(10,2) NOT NULL
);

CREATE TABLE offices (
  "officeCode"   varchar(10) PRIMARY KEY,
  city           varchar(50) NOT NULL,
  phone          varchar(50) NOT NULL,
  "addressLine1" varchar(50) NOT NULL,
  "addressLine2" varchar(50),
  state          varchar(50),
  country        varchar(50) NOT NULL,
  "postalCode"   varchar(15) NOT NULL,
  territory      varchar(10) NOT NULL
);

CREATE TABLE employees (
  "employeeNumber" integer PRIMARY KEY,
  "lastName"       varchar(50) NOT NULL,
  "firstName"      varchar(50) NOT NULL,
  extension        varchar(10) NOT NULL,
  email            varchar(100) NOT NULL,
  "officeCode"     varchar(10) NOT NULL REFERENCES offices,
  "reportsTo"      integer REFERENCES employees,
  "jobTitle"       varchar(50) NOT NULL
);

CREATE TABLE customers (
  "customerNumber"         integer PRIMARY KEY,
  "customerName"           varchar(50) NOT NULL,
  "contactLastName"        varchar(50) NOT NULL,
  "contactFirstName"       varchar(50) NOT NULL,
  phone                    varchar(50) NOT NULL,
  "addressLine1"           varchar(50) NOT NULL,
  "addressLine2"           varchar(50),
  city                     varchar(50) NOT NULL,
  state                    varchar(50),
  "postalCode"             varchar(15),
  country                  varchar(50) NOT NULL,
  "salesRepEmployeeNumber" integer REFERENCES employees,
  "creditLimit"            numeric(10,2)
);

CREATE TABLE orders (
  "orderNumber"    integer PRIMARY KEY,
  "orderDate"      date NOT NULL,
  "requiredDate"   date NOT NULL,
  "shippedDate"    date,
  status           varchar(15) NOT NULL,
  comments         text,
  "customerNumber" integer NOT NULL REFERENCES customers ON UPDATE CASCADE
);
CREATE INDEX ON orders ("customerNumber");

CREATE TABLE orderdetails (
  "orderNumber"     integer NOT NULL REFERENCES orders ON UPDATE CASCADE ON DELETE CASCADE,
  "productCode"     varchar(15) NOT NULL REFERENCES products ON UPDATE CASCADE,
  "quantityOrdered" integer NOT NULL,
  "priceEach"       numeric(10,2) NOT NULL,
  "orderLineNumber" smallint NOT NULL,
  PRIMARY KEY ("orderNumber", "productCode")
);
CREATE INDEX ON orderdetails ("productCode");

CREATE TABLE payments (
  "customerNumber" integer NOT NULL REFERENCES customers ON UPDATE CASCADE,
  "checkNumber"    varchar(50) NOT NULL,
  "paymentDate"    date NOT NULL,
  amount           numeric(10,2) NOT NULL,
  PRIMARY KEY ("customerNumber", "checkNumber")
);

-- Flink's debezium-json reader wants the whole old row in updates and deletes.
ALTER TABLE productlines REPLICA IDENTITY FULL;
ALTER TABLE products     REPLICA IDENTITY FULL;
ALTER TABLE offices      REPLICA IDENTITY FULL;
ALTER TABLE employees    REPLICA IDENTITY FULL;
ALTER TABLE customers    REPLICA IDENTITY FULL;
ALTER TABLE orders       REPLICA IDENTITY FULL;
ALTER TABLE orderdetails REPLICA IDENTITY FULL;
ALTER TABLE payments     REPLICA IDENTITY FULL;
