-- What dim_customers must hold, asked of the source. Exactly these columns are compared.
SELECT "customerNumber" AS customer_key,
       "customerName" AS customer_name,
       "contactFirstName" || ' ' || "contactLastName" AS contact_name,
       city, state, country,
       "creditLimit" AS credit_limit
FROM classicmodels.customers
