"""Antonyms among words of sentiment, in groups of one part of speech and inflection; under this project's licence.

WordNet has an antonym for few of the words that reviews judge with ("boring", "gripping", "masterpiece" have none), so
these groups are written by hand. tests/data/test_sentiment_reversal.py holds each word against the ratings of VADER.
"""

from functools import lru_cache

# Positive words | negative words: any word of one side is an antonym of any word of the other. A star marks a word that
# may replace others but has too many other meanings to be replaced.
GROUPS = """
good, fine, decent, solid | bad, poor, lousy, weak
great, excellent, terrific, superb | terrible, awful, dreadful, horrible
amazing, awesome, fantastic, wonderful | appalling, dire, abysmal, atrocious
nice, pleasant, lovely | nasty, unpleasant, horrid
perfect, flawless | flawed, faulty
impressive, remarkable, outstanding | unimpressive, unremarkable, mediocre
better | worse
stronger, superior | weaker, inferior
best, finest, greatest | worst, poorest
brilliant, clever, smart, intelligent, ingenious | stupid, dumb, dull, idiotic, moronic
wise, thoughtful, insightful | foolish, thoughtless, shallow
gripping, thrilling, riveting, compelling, engrossing | boring, tedious, dreary, tiresome, monotonous
exciting, exhilarating, stirring | dull, unexciting, lifeless
interesting, fascinating, intriguing, absorbing | uninteresting, boring, dull
captivating, mesmerizing, spellbinding, enthralling | tedious, numbing, soporific
fun | boring, tedious
entertaining, enjoyable, engaging, amusing | tedious, unentertaining, dreary, irritating
funny, hilarious, witty, comical | unfunny, humorless, witless
funnier | duller
funniest | dullest
charming, delightful, enchanting, endearing | charmless, repellent, off-putting, annoying
likable, likeable, lovable | unlikable, unlikeable, hateful
beautiful, gorgeous, stunning | ugly, hideous, unsightly
attractive, appealing | unattractive, unappealing
elegant, graceful, polished | clumsy, inelegant, crude
original, inventive, innovative, imaginative | unoriginal, derivative, unimaginative, formulaic
fresh, creative | stale, trite, hackneyed
surprising, unpredictable | predictable, unsurprising
inspired, inspiring | uninspired, uninspiring
moving, touching, poignant, affecting | unmoving, unaffecting, mawkish
heartfelt, sincere, genuine, honest, authentic | insincere, phony, fake, dishonest, contrived
tender, gentle | cruel, harsh
believable, convincing, plausible, credible | unconvincing, implausible
realistic | unrealistic, unnatural
subtle, understated | heavy-handed, overblown
profound | shallow, superficial
meaningful, purposeful | meaningless, pointless, aimless
vivid, lively, vibrant | bland, lifeless, drab
energetic, dynamic | listless, sluggish
taut, brisk | plodding, slow-moving
coherent, logical, sensible | incoherent, illogical, senseless, nonsensical
lucid | confusing, muddled, unclear
masterful, skillful, accomplished | amateurish, clumsy, inept, incompetent
competent, capable | incompetent, incapable, inept
successful, triumphant | unsuccessful
effective | ineffective
satisfying, fulfilling, rewarding, gratifying | unsatisfying, disappointing, frustrating, unrewarding
satisfactory, adequate, acceptable, sufficient | unsatisfactory, inadequate, unacceptable, insufficient
refreshing | tiresome
memorable, unforgettable | forgettable, unmemorable
worthwhile, valuable, worthy | worthless, useless, unworthy
useful, helpful, handy | useless, unhelpful
tasteful | tasteless
delicious, tasty, yummy | disgusting, tasteless, inedible
happy, joyful, cheerful, joyous | unhappy, sad, miserable, gloomy
happily, cheerfully, joyfully | unhappily, sadly, miserably
glad, pleased, delighted, thrilled | sorry, displeased, disappointed, dismayed
satisfied, impressed | dissatisfied, discontented, unimpressed
excited, interested | bored, uninterested
amused, entertained | annoyed, bored
uplifting, heartening, optimistic | depressing, disheartening, pessimistic
lucky, fortunate | unlucky, unfortunate
luckily, fortunately, thankfully | unluckily, unfortunately, regrettably
friendly, polite, courteous, welcoming | unfriendly, rude, hostile, impolite
caring, considerate, attentive | uncaring, inconsiderate, inattentive
generous | stingy
loyal, faithful | disloyal, unfaithful
noble, admirable, honorable | shameful, deplorable, despicable
sympathetic, compassionate | unsympathetic, callous
safe, secure | unsafe, insecure
reliable, dependable, trustworthy | unreliable, undependable, untrustworthy
durable, sturdy, robust | flimsy, fragile
comfortable, comfy, cozy | uncomfortable
clean, spotless, tidy | dirty, filthy, messy
easy, effortless | difficult, laborious, complicated
intuitive | unintuitive
convenient | inconvenient
affordable, inexpensive | overpriced, expensive
healthy | unhealthy
classy | shoddy, trashy
positive, favorable | negative, unfavorable
right* | wrong
correct, accurate | incorrect, inaccurate
fair | unfair
sophisticated, mature | unsophisticated, childish, juvenile
magical, magnificent, marvelous, splendid, spectacular | abominable, wretched, pitiful, pathetic, lamentable
glorious, exquisite, sublime | inglorious, ghastly, execrable
exceptional | unexceptional
popular, acclaimed, celebrated | unpopular, derided, maligned
well | badly, poorly
brilliantly, superbly, wonderfully, beautifully | terribly, awfully, horribly, dreadfully
perfectly, flawlessly | imperfectly
skillfully, expertly, masterfully, deftly | clumsily, ineptly, amateurishly
convincingly, believably | unconvincingly, implausibly
successfully, effectively | unsuccessfully, ineffectively
cleverly, smartly, intelligently | stupidly, foolishly
elegantly, gracefully | inelegantly, clumsily
nicely, pleasantly | unpleasantly, nastily
love, adore | hate, detest, loathe, despise
loves, adores | hates, detests, loathes, despises
loved, adored | hated, detested, loathed, despised
loving, adoring | hating, detesting, loathing, despising
like, enjoy, appreciate | dislike
likes, enjoys, appreciates | dislikes
liked, enjoyed, appreciated | disliked
liking, enjoying, appreciating | disliking
admire, respect | despise, disdain
admires, respects | despises, disdains
admired, respected | despised, disdained
praise, applaud, commend | criticize, condemn, denounce
praises, applauds, commends | criticizes, condemns, denounces
praised, applauded, commended | criticized, condemned, denounced
delight, satisfy | displease, disappoint, annoy, irritate
pleases, delights, satisfies | displeases, disappoints, annoys, irritates
amuse, entertain, excite | bore, annoy
amuses, entertains, excites | bores, annoys
impress, dazzle | disappoint, underwhelm
impresses, dazzles | disappoints, underwhelms
dazzled, pleased, charmed | disappointed, underwhelmed
succeed, triumph | fail, flop
succeeds, triumphs | fails, flops
succeeded, triumphed | failed, flopped
succeeding | failing
improve, enhance, enrich | worsen, ruin, spoil
improves, enhances, enriches | worsens, ruins, spoils
improved, enhanced, enriched | worsened, ruined, spoiled
praiseworthy, commendable | blameworthy, reprehensible
treasure, pleasure, delight, joy | ordeal, chore, pain, nuisance, misery
masterpiece, gem, triumph, marvel | disaster, failure, fiasco, dud, flop, mess
success | failure, flop
masterpieces, gems, triumphs, marvels | disasters, failures, fiascos, duds, messes
successes | failures, flops
strength, virtue, merit, asset | weakness, flaw, fault, defect
strengths, virtues, merits, assets | weaknesses, flaws, faults, defects
beauty, elegance, grace, charm | ugliness, clumsiness, dullness
brilliance, genius, wit, intelligence | stupidity, idiocy, foolishness
happiness, bliss, delight | unhappiness, sadness, misery
excitement | boredom
admiration, respect | scorn, disdain
affection, fondness | hatred, hostility
optimism | despair, pessimism
comfort | discomfort, distress
honesty, sincerity | dishonesty, insincerity
originality, inventiveness, creativity | unoriginality, banality
benefit, advantage | drawback, disadvantage
benefits, advantages | drawbacks, disadvantages
"""


@lru_cache(maxsize=1)
def load_antonyms() -> dict[str, tuple[str, ...]]:
    """The antonyms of each word of `GROUPS`.

    >>> load_antonyms()["excitement"], load_antonyms()["fun"]
    (('boredom',), ('boring', 'tedious'))
    """
    antonyms: dict[str, list[str]] = {}
    for positive, negative in list_groups():
        for words, opposites in ((positive, negative), (negative, positive)):
            for word in words:
                if not word.endswith("*"):
                    antonyms.setdefault(word, []).extend(opposite.removesuffix("*") for opposite in opposites)
    return {word: tuple(dict.fromkeys(opposites)) for word, opposites in antonyms.items()}


@lru_cache(maxsize=1)
def load_polarities() -> dict[str, int]:
    """1 for each positive word that has antonyms, -1 for each negative one."""
    signed = [(words, sign) for group in list_groups() for words, sign in zip(group, (1, -1), strict=True)]
    return {word: sign for words, sign in signed for word in words if not word.endswith("*")}


def list_groups() -> list[tuple[list[str], list[str]]]:
    """The positive and the negative words of each group."""
    lines = (line.split("|") for line in GROUPS.strip().splitlines())
    return [(positive.replace(",", " ").split(), negative.replace(",", " ").split()) for positive, negative in lines]
