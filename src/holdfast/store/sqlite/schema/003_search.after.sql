-- The step before this one may have given all sessions other ranks: look at each of them again.

DELETE FROM searched_tenants;
