-- What fact_orders must hold, asked of the source. Exactly these columns are compared.
SELECT d."orderNumber" AS order_number,
       d."productCode" AS product_key,
       d."orderLineNumber" AS order_line,
       o."customerNumber" AS customer_key,
       o."orderDate" AS order_date,
       o."requiredDate" AS required_date,
       o."shippedDate" AS shipped_date,
       o.status,
       d."quantityOrdered" AS quantity,
       d."priceEach" AS price_each,
       d."quantityOrdered" * d."priceEach" AS amount
FROM classicmodels.orderdetails d
JOIN classicmodels.orders o ON o."orderNumber" = d."orderNumber"
