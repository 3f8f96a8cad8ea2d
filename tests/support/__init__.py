"""Servers, clients and settings that the tests share."""
