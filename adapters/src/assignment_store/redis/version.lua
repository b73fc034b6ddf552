-- Returns the version, and the greatest epoch that can have been minted
return {version(), text(latest)}
