"""The admin API: weights and status, from admin.proto."""
