-- The target: a small star schema of the shop.
CREATE SCHEMA classicmodels_star_schema;
SET search_path TO classicmodels_star_schema;

CREATE TABLE dim_customers (
  customer_key  integer PRIMARY KEY,
  customer_name text NOT NULL,
  contact_name  text,
  city          text,
  state         text,
  country       text,
  credit_limit  numeric(10,2),
  updated_at    timestamp(3)
);

CREATE TABLE dim_products (
  product_key      varchar(15) PRIMARY KEY,
  product_name     text NOT NULL,
  product_line     text NOT NULL,
  line_description text,
  product_scale    text,
  product_vendor   text,
  quantity_stock   integer,
  buy_price        numeric(10,2),
  msrp             numeric(10,2)
);

-- No foreign keys to the dimensions: each table follows its own topics, so a fact may be there for a moment
-- before its dimension row is.
CREATE TABLE fact_orders (
  order_number   integer,
  product_key    varchar(15),
  order_line     smallint,
  customer_key   integer NOT NULL,
  order_date     date NOT NULL,
  required_date  date,
  shipped_date   date,
  status         text,
  quantity       integer NOT NULL,
  price_each     numeric(10,2) NOT NULL,
  amount         numeric(14,2) NOT NULL,
  updated_at     timestamp(3),
  PRIMARY KEY (order_number, product_key)
);
CREATE INDEX ON fact_orders (customer_key);
CREATE INDEX ON fact_orders (product_key);
