"""Does class-specific distillation pay when traffic is skewed?"""
