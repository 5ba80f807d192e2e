"""What calls of models cost, what may still be spent, and what the router learned: kept in the database.

Knows neither HTTP nor the agent.
"""
