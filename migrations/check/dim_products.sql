-- What dim_products must hold, asked of the source. Exactly these columns are compared.
SELECT p."productCode" AS product_key,
       p."productName" AS product_name,
       p."productLine" AS product_line,
       l."textDescription" AS line_description,
       p."productScale" AS product_scale,
       p."productVendor" AS product_vendor,
       p."quantityInStock" AS quantity_stock,
       p."buyPrice" AS buy_price,
       p."MSRP" AS msrp
FROM classicmodels.products p
JOIN classicmodels.productlines l ON l."productLine" = p."productLine"
