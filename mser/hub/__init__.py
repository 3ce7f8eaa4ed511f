"""A run's folder to a model hub, when somebody asks for it. Nothing else of mser sends anything anywhere."""
