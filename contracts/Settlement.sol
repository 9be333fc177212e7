// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title The settlement rules of Joulemesh as a contract: one venue, one token, nobody in charge.
/// @notice Clause numbers are those of docs/spec/settlement.md; docs/spec/contract.md says which hold here, and how.
/// Money is counted in micro-units, a millionth of the token. What is held for sessions is not stored: a session is one
/// slot with a hash of its marks, which whoever acts on it hands in again. A mark is what a leg has been paid, times 2^64,
/// plus its ceiling. Nothing here can be changed, paused or upgraded.
contract Settlement is EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20Metadata;

    struct Leg {
        address provider;
        uint64 cap;
    }

    struct Session {
        address client;
        uint40 expiry;
        bytes32 terms;
        bytes32 salt;
        Leg[] legs;
    }

    /// @notice A voucher, the session that it is for, and that session's marks as they stand.
    struct Claim {
        Session session;
        uint128[] marks;
        uint64[] amounts;
        uint64 tokensIn;
        uint64 tokensOut;
        bytes32 receipts;
        bytes32 r;
        bytes32 vs;
    }

    struct Discharge {
        uint8 leg;
        uint64 amount;
        bytes32 r;
        bytes32 vs;
    }

    struct Receipt {
        bytes32 session;
        uint8 leg;
        uint32 window;
        uint64 tokensIn;
        uint64 tokensOut;
        uint64 rows;
        bytes32 input;
        bytes32 output;
        bytes32 tokens;
        bytes32 nonce;
        bytes32 sketches;
        uint64 millijoules;
        string source;
        uint32 pueMilli;
        uint32 p50Us;
        uint32 p95Us;
        uint64 late;
    }

    struct Checkpoint {
        bytes32 origin;
        uint64 size;
        bytes32 root;
    }

    /// @notice An EIP-2098 signature: the only form that is taken.
    struct Signature {
        bytes32 r;
        bytes32 vs;
    }

    struct Account {
        uint64 free;
        uint64 bond;
        uint64 unbonding;
        uint40 unlockAt;
    }

    event Deposited(address indexed account, uint64 amount);
    event Withdrawn(address indexed account, address indexed to, uint64 amount);
    event Opened(bytes32 indexed session, address indexed client);
    /// @notice The marks of a session that stays open after a voucher or discharges.
    event Marked(bytes32 indexed session, uint256[] marks);
    event Closed(bytes32 indexed session);
    event Staked(address indexed account, uint64 amount);
    event Unstaked(address indexed account, uint64 amount, uint40 unlockAt);
    event Unbonded(address indexed account, uint64 amount);
    event Slashed(address indexed accused, address indexed by, uint64 penalty, uint64 reward);

    error Decimals();
    error Transfer();
    error Amount();
    error Balance();
    error Overflow();
    error BadSignature();
    error Expiry();
    error Exists();
    error UnknownSession();
    error SessionClosed();
    error Stale();
    error Mismatch();
    error Cap();
    error Expired();
    error NothingRises();
    error NothingFreed();
    error Early();
    error Bond();
    error Proof();
    error NothingStaked();

    bytes32 private constant LEG = keccak256("Leg(address provider,uint64 cap)");
    bytes32 private constant SESSION = keccak256(
        "Session(address client,uint40 expiry,bytes32 terms,bytes32 salt,Leg[] legs)Leg(address provider,uint64 cap)"
    );
    bytes32 private constant VOUCHER = keccak256(
        "Voucher(bytes32 session,uint64[] amounts,uint64 tokensIn,uint64 tokensOut,bytes32 receipts)"
    );
    bytes32 private constant DISCHARGE = keccak256("Discharge(bytes32 session,uint8 leg,uint64 amount)");
    bytes32 private constant RECEIPT = keccak256(
        "Receipt(bytes32 session,uint8 leg,uint32 window,uint64 tokensIn,uint64 tokensOut,uint64 rows,bytes32 input,"
        "bytes32 output,bytes32 tokens,bytes32 nonce,bytes32 sketches,uint64 millijoules,string source,uint32 pueMilli,"
        "uint32 p50Us,uint32 p95Us,uint64 late)"
    );
    bytes32 private constant CHECKPOINT = keccak256("Checkpoint(bytes32 origin,uint64 size,bytes32 root)");

    /// @dev In a session's slot, once nothing is held for it. No hash of marks is this number.
    bytes32 private constant CLOSED = bytes32(uint256(1));
    uint256 private constant MAX_LEGS = 16;
    uint256 private constant MAX_MONEY = 2 ** 63 - 1;
    uint256 private constant MAX_SESSION = 90 days;

    IERC20Metadata public immutable token;
    /// @notice Units of the token in a micro-unit.
    uint256 public immutable scale;
    /// @notice Seconds after expiry in which vouchers are redeemed.
    uint40 public immutable grace;
    /// @notice Seconds that a bond waits before it is free.
    uint40 public immutable unbonding;
    /// @notice Micro-units of penalties that nobody can have any more; the tokens stay here for good.
    uint256 public burned;

    mapping(address account => Account) public accounts;
    /// @notice 0: not known; 1: closed; else the hash of the session's marks.
    mapping(bytes32 session => bytes32) public sessions;

    constructor(IERC20Metadata token_, uint40 grace_, uint40 unbonding_) EIP712("joulemesh", "2") {
        uint8 decimals = token_.decimals();
        if (decimals != 6 && decimals != 18) revert Decimals();
        token = token_;
        scale = 10 ** (decimals - 6);
        grace = grace_;
        unbonding = unbonding_;
    }

    // L6: deposit and withdraw

    /// @notice Credit what an approval of the token allows to be taken. Tokens that take a fee are refused.
    function deposit(uint64 amount) external nonReentrant {
        _requirePositive(amount);
        uint256 units = amount * scale;
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), units);
        if (token.balanceOf(address(this)) != before + units) revert Transfer();
        _credit(msg.sender, amount);
        emit Deposited(msg.sender, amount);
    }

    function withdraw(address to, uint64 amount) external nonReentrant {
        _requirePositive(amount);
        _debit(msg.sender, amount);
        emit Withdrawn(msg.sender, to, amount);
        token.safeTransfer(to, amount * scale);
    }

    // L7: open

    function open(Session calldata session) external {
        if (session.client != msg.sender) revert BadSignature();
        _open(session, _id(session));
    }

    /// @notice Open a session that its client has signed; whoever sends this pays the gas.
    function openFor(Session calldata session, Signature calldata signature) external {
        bytes32 id = _id(session);
        _requireSigner(id, signature.r, signature.vs, session.client);
        _open(session, id);
    }

    function _open(Session calldata session, bytes32 id) private {
        uint256 count = session.legs.length;
        if (count == 0 || count > MAX_LEGS) revert Mismatch();
        if (session.expiry <= block.timestamp || session.expiry > block.timestamp + MAX_SESSION) revert Expiry();
        if (sessions[id] != 0) revert Exists();
        uint256[] memory marks = new uint256[](count);
        uint256 caps = 0;
        for (uint256 i = 0; i < count; ++i) {
            uint64 cap = session.legs[i].cap;
            marks[i] = cap;
            caps += cap;
        }
        _requirePositive(caps);
        _debit(session.client, caps);
        sessions[id] = _hash(marks);
        emit Opened(id, session.client);
    }

    // L8: settle

    function settle(Claim[] calldata claims) external {
        for (uint256 i = 0; i < claims.length; ++i) _settle(claims[i]);
    }

    function _settle(Claim calldata claim) private {
        Session calldata session = claim.session;
        bytes32 id = _id(session);
        uint256[] memory marks = _marks(session, id, claim.marks);
        // (1) the client's word, an amount for each leg, none above its cap
        _requireSigner(_hashVoucher(claim, id), claim.r, claim.vs, session.client);
        // (3) each leg's amount rises on its own, up to its ceiling
        (bool risen, uint256 held) = _pay(session.legs, marks, claim.amounts);
        // (2) in time
        if (block.timestamp > _end(session)) revert Expired();
        if (!risen) revert NothingRises();
        _store(id, marks, held);
    }

    function _pay(Leg[] calldata legs, uint256[] memory marks, uint64[] calldata amounts)
        private
        returns (bool risen, uint256 held)
    {
        uint256 count = marks.length;
        if (amounts.length != count) revert Mismatch();
        for (uint256 i = 0; i < count; ++i) {
            uint256 mark = marks[i];
            uint256 amount = amounts[i];
            if (amount > legs[i].cap) revert Cap();
            // what is held for a session its client once had: nothing here overflows
            unchecked {
                (uint256 settled, uint256 ceiling) = (mark >> 64, uint64(mark));
                if (amount > ceiling) amount = ceiling;
                if (amount > settled) {
                    risen = true;
                    _credit(legs[i].provider, amount - settled);
                    settled = amount;
                    marks[i] = settled << 64 | ceiling;
                }
                held += ceiling - settled;
            }
        }
    }

    // L9: release

    function release(Session calldata session, uint128[] calldata marks_, Discharge[] calldata discharges) external {
        bytes32 id = _id(session);
        uint256[] memory marks = _marks(session, id, marks_);
        Leg[] calldata legs = session.legs;
        uint256 held = _held(marks);
        uint256 freed = 0;
        for (uint256 i = 0; i < discharges.length; ++i) {
            if (freed == held) {
                _requireKnown(session, CLOSED);
                revert SessionClosed();
            }
            Discharge calldata discharge = discharges[i];
            (uint256 leg, uint256 amount) = (discharge.leg, discharge.amount);
            // (1) the leg's own word
            if (leg >= legs.length) revert Mismatch();
            _requireSigner(_hashDischarge(id, leg, amount), discharge.r, discharge.vs, legs[leg].provider);
            // (2) it frees something, and nothing that is settled
            uint256 mark = marks[leg];
            unchecked {
                (uint256 settled, uint256 ceiling) = (mark >> 64, uint64(mark));
                if (amount < settled) amount = settled;
                if (amount >= ceiling) revert NothingFreed();
                freed += ceiling - amount;
                marks[leg] = settled << 64 | amount;
            }
        }
        _requirePositive(freed);
        _credit(session.client, freed);
        _store(id, marks, held - freed);
    }

    // L10: close

    function close(Session calldata session, uint128[] calldata marks_) external {
        bytes32 id = _id(session);
        uint256[] memory marks = _marks(session, id, marks_);
        if (block.timestamp <= _end(session)) revert Early();
        // L19: its expiry is past, so that it cannot be opened again
        delete sessions[id];
        _credit(session.client, _held(marks));
        emit Closed(id);
    }

    // L14 to L16: stake, unstake, unbond

    function stake(uint64 amount) external {
        _requirePositive(amount);
        _debit(msg.sender, amount);
        Account storage account = accounts[msg.sender];
        _sum(uint256(account.bond) + account.unbonding, amount);
        account.bond += amount;
        emit Staked(msg.sender, amount);
    }

    function unstake(uint64 amount) external {
        _requirePositive(amount);
        Account storage account = accounts[msg.sender];
        if (account.bond < amount) revert Bond();
        account.bond -= amount;
        account.unbonding += amount;
        account.unlockAt = uint40(block.timestamp) + unbonding;
        emit Unstaked(msg.sender, amount, account.unlockAt);
    }

    function unbond() external {
        Account storage account = accounts[msg.sender];
        uint64 amount = account.unbonding;
        _requirePositive(amount);
        if (block.timestamp < account.unlockAt) revert Early();
        (account.unbonding, account.unlockAt) = (0, 0);
        _credit(msg.sender, amount);
        emit Unbonded(msg.sender, amount);
    }

    // L17: slash for what proves itself

    /// @notice Two receipts of one leg for one window, made with one nonce: the provider's whole stake is lost.
    function slash(
        Session calldata session,
        Receipt calldata first,
        Signature calldata firstBy,
        Receipt calldata second,
        Signature calldata secondBy
    ) external {
        bytes32 id = _id(session);
        _requireKnown(session, sessions[id]);
        if (first.session != id || second.session != id || first.leg >= session.legs.length) revert Proof();
        if (first.leg != second.leg || first.window != second.window) revert Proof();
        if (first.nonce == 0 || first.nonce != second.nonce) revert Proof();
        (bytes32 one, bytes32 other) = (_hashReceipt(first), _hashReceipt(second));
        if (one >= other) revert Proof();
        address provider = session.legs[first.leg].provider;
        _requireSigner(one, firstBy.r, firstBy.vs, provider);
        _requireSigner(other, secondBy.r, secondBy.vs, provider);
        _slash(provider);
    }

    /// @notice Two checkpoints of one log with one size and two roots: the stake of whoever signed both is lost.
    function equivocation(
        Checkpoint calldata first,
        Signature calldata firstBy,
        Checkpoint calldata second,
        Signature calldata secondBy
    ) external {
        if (first.origin != second.origin || first.size != second.size || first.root == second.root) revert Proof();
        (bytes32 one, bytes32 other) = (_hashCheckpoint(first), _hashCheckpoint(second));
        if (one >= other) revert Proof();
        address accused = _signer(one, firstBy.r, firstBy.vs);
        _requireSigner(other, secondBy.r, secondBy.vs, accused);
        _slash(accused);
    }

    function _slash(address accused) private {
        Account storage account = accounts[accused];
        uint64 penalty = account.bond + account.unbonding;
        if (penalty == 0) revert NothingStaked();
        (account.bond, account.unbonding, account.unlockAt) = (0, 0, 0);
        uint64 reward = penalty / 2;
        burned += penalty - reward;
        _credit(msg.sender, reward);
        emit Slashed(accused, msg.sender, penalty, reward);
    }

    // L1: money

    function _credit(address to, uint256 amount) private {
        Account storage account = accounts[to];
        account.free = _sum(account.free, amount);
    }

    function _debit(address from, uint256 amount) private {
        Account storage account = accounts[from];
        uint64 free = account.free;
        if (free < amount) revert Balance();
        unchecked {
            account.free = uint64(free - amount);
        }
    }

    function _sum(uint256 one, uint256 other) private pure returns (uint64) {
        uint256 sum = one + other;
        if (sum > MAX_MONEY) revert Overflow();
        return uint64(sum);
    }

    function _requirePositive(uint256 amount) private pure {
        if (amount == 0) revert Amount();
    }

    // Sessions

    function _end(Session calldata session) private view returns (uint256) {
        return uint256(session.expiry) + grace;
    }

    /// @dev L19: a closed one is forgotten after its grace.
    function _requireKnown(Session calldata session, bytes32 slot) private view {
        if (slot == 0 || (slot == CLOSED && block.timestamp > _end(session))) revert UnknownSession();
    }

    /// @dev The marks of an open session, as they were handed in and are stored.
    function _marks(Session calldata session, bytes32 id, uint128[] calldata given)
        private
        view
        returns (uint256[] memory marks)
    {
        bytes32 slot = sessions[id];
        uint256 count = given.length;
        marks = new uint256[](count);
        assembly ("memory-safe") {
            calldatacopy(add(marks, 32), given.offset, mul(count, 32))
        }
        if (_hash(marks) == slot) return marks;
        _requireKnown(session, slot);
        if (slot == CLOSED) revert SessionClosed();
        revert Stale();
    }

    function _held(uint256[] memory marks) private pure returns (uint256 held) {
        unchecked {
            for (uint256 i = 0; i < marks.length; ++i) held += uint64(marks[i]) - (marks[i] >> 64);
        }
    }

    function _store(bytes32 id, uint256[] memory marks, uint256 held) private {
        if (held == 0) {
            sessions[id] = CLOSED;
            emit Closed(id);
        } else {
            sessions[id] = _hash(marks);
            emit Marked(id, marks);
        }
    }

    // EIP-712 hashes

    function _hash(uint256[] memory words) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            hash := keccak256(add(words, 32), mul(mload(words), 32))
        }
    }

    function _hashAmounts(uint64[] calldata amounts) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let at := mload(64)
            calldatacopy(at, amounts.offset, mul(amounts.length, 32))
            hash := keccak256(at, mul(amounts.length, 32))
        }
    }

    function _hashVoucher(Claim calldata claim, bytes32 id) private pure returns (bytes32) {
        bytes32 amounts = _hashAmounts(claim.amounts);
        return keccak256(abi.encode(VOUCHER, id, amounts, claim.tokensIn, claim.tokensOut, claim.receipts));
    }

    function _id(Session calldata session) private pure returns (bytes32) {
        Leg[] calldata legs = session.legs;
        bytes32 leg = LEG;
        bytes32 hash;
        assembly ("memory-safe") {
            let at := mload(64)
            let end := add(at, mul(legs.length, 32))
            mstore(end, leg)
            let from := legs.offset
            for { let to := at } lt(to, end) { to := add(to, 32) } {
                calldatacopy(add(end, 32), from, 64)
                mstore(to, keccak256(end, 96))
                from := add(from, 64)
            }
            hash := keccak256(at, sub(end, at))
        }
        return keccak256(abi.encode(SESSION, session.client, session.expiry, session.terms, session.salt, hash));
    }

    function _hashReceipt(Receipt calldata receipt) private pure returns (bytes32) {
        // in two halves, which are whole words: so many values do not fit on the stack
        return keccak256(
            bytes.concat(
                abi.encode(
                    RECEIPT,
                    receipt.session,
                    receipt.leg,
                    receipt.window,
                    receipt.tokensIn,
                    receipt.tokensOut,
                    receipt.rows,
                    receipt.input,
                    receipt.output
                ),
                abi.encode(
                    receipt.tokens,
                    receipt.nonce,
                    receipt.sketches,
                    receipt.millijoules,
                    keccak256(bytes(receipt.source)),
                    receipt.pueMilli,
                    receipt.p50Us,
                    receipt.p95Us,
                    receipt.late
                )
            )
        );
    }

    function _hashCheckpoint(Checkpoint calldata checkpoint) private pure returns (bytes32) {
        return keccak256(abi.encode(CHECKPOINT, checkpoint.origin, checkpoint.size, checkpoint.root));
    }

    function _hashDischarge(bytes32 id, uint256 leg, uint256 amount) private pure returns (bytes32 hash) {
        bytes32 kind = DISCHARGE;
        assembly ("memory-safe") {
            let at := mload(64)
            mstore(at, kind)
            mstore(add(at, 32), id)
            mstore(add(at, 64), leg)
            mstore(add(at, 96), amount)
            hash := keccak256(at, 128)
        }
    }

    function _requireSigner(bytes32 structHash, bytes32 r, bytes32 vs, address expected) private view {
        if (_signer(structHash, r, vs) != expected) revert BadSignature();
    }

    /// @dev Who made an EIP-2098 signature; there is no signature of nobody.
    function _signer(bytes32 structHash, bytes32 r, bytes32 vs) private view returns (address signer) {
        bytes32 digest = _hashTypedDataV4(structHash);
        assembly ("memory-safe") {
            let at := mload(64)
            mstore(at, digest)
            mstore(add(at, 32), add(27, shr(255, vs)))
            mstore(add(at, 64), r)
            mstore(add(at, 96), shr(1, shl(1, vs)))
            mstore(0, 0)
            pop(staticcall(gas(), 1, at, 128, 0, 32))
            signer := mload(0)
        }
        if (signer == address(0)) revert BadSignature();
    }
}
