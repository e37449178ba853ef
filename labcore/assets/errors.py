"""What can go wrong with an asset. Every message is one line that ends in the next step."""


class AssetError(RuntimeError):
    """An asset cannot be had; the message says why and what to do."""


class BadRegistry(AssetError, ValueError):
    """A registry file does not say what it must; the message names file, asset and key."""


class UnknownAsset(AssetError):
    """No asset has this name; the message lists the nearest ones."""


class AssetOffline(AssetError):
    """The asset is not on this machine and the network is off or out of reach."""


class AssetCorrupt(AssetError):
    """The bytes are not the registered ones, or the archive that holds them is damaged."""


class AssetSourceError(AssetError):
    """The source did not deliver: no client installed, no such version, no such member."""


class AssetStorageError(AssetError):
    """The cache cannot take the asset: disk full or folder not writable."""


class UnsafeArchive(AssetError):
    """An archive holds a member that would leave its folder, or a link or device."""
