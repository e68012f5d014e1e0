-- The function that `commit_v2` replaces.
DROP FUNCTION holdfast.commit_v1;
