"""What every notebook imports: the ConceptCLIP family and the small functions around it."""

import helpers.conceptclip  # registers the classes with transformers' Auto classes
