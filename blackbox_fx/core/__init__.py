"""What every other part uses: files, folders, checks, progress. Nothing here imports torch or an effect."""
