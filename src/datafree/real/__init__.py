"""The only room through which real images pass; methods and applications cannot import it."""
