"""An OpenID provider whose bearer tokens count. The only importer of jwt."""
