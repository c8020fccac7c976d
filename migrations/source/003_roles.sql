-- What the connector may do, and no more: read these tables and stream their changes. The publication is made
-- here, by the owner of the tables, so that the role needs neither ownership nor CREATE on the database; the
-- connector (publication.autocreate.mode=filtered) finds it with the right tables and leaves it as it is.
-- The password is one for a demo: change it before a real use.
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'millstream_capture') THEN
    CREATE ROLE millstream_capture LOGIN REPLICATION PASSWORD 'capture-demo';
  END IF;
END $$;
GRANT USAGE ON SCHEMA classicmodels TO millstream_capture;
GRANT SELECT ON ALL TABLES IN SCHEMA classicmodels TO millstream_capture;

CREATE PUBLICATION dbz_publication FOR TABLE
  classicmodels.productlines, classicmodels.products, classicmodels.offices, classicmodels.employees,
  classicmodels.customers, classicmodels.orders, classicmodels.orderdetails, classicmodels.payments;
