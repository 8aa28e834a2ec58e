"""English words by what they say about how many things a caption shows; for `vfusion3d.engine.stages.captions`."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES = _words("a an the one some")
DETERMINERS = _words("a an the one this that some his her its their my your our another each")
NUMBERS = _words(
    """
    two three four five six seven eight nine ten eleven twelve dozen several many multiple various both few
    """
)
COLOURS = _words(
    """
    black white red green blue yellow orange purple pink brown grey gray gold golden silver beige cream dark
    light
    """
)

PREPOSITIONS = _words(
    """
    of in on at by with without from into onto over under above below behind against beneath beside besides near
    to through along across around inside outside between among atop upon for during towards toward off out up
    down like as about
    """
)
"""Where the first noun phrase ends; verbs end it as well."""

VERBS = _words(
    """
    is are was were has have had sits sit stands stand lies lay lays rests hangs holds holding wears wearing
    rides that which who where while when made covered filled dressed carved topped surrounded parked perched
    shaped seen touch touches leans grows looks facing turned mounted piled
    """
)

NOUNS_IN_ING = _words(
    """
    ring king wing thing string spring ceiling building painting clothing earring wedding morning evening
    duckling dumpling pudding stocking swing sling lightning sibling icing awning railing bearing housing
    gosling drawing lighting starling herring stuffing bling sting topping
    """
)
"""Words on -ing that are no verbs."""

GROUPS = _words(
    """
    group groups herd herds flock flocks crowd couple team band family swarm pack fleet row rows line lines lot
    lots number set sets collection variety assortment series range selection school bunches pairs
    """
)
"""Several things that stand by themselves. A pile, plate, bouquet or pair of things is one."""

PLURALS = _words("people men women children mice geese sheep cattle teeth feet kids birds guys")

PAIRED = _words(
    """
    glasses eyeglasses sunglasses spectacles goggles jeans pants trousers shorts leggings tights overalls
    pyjamas pajamas boots shoes sneakers sandals slippers heels loafers trainers socks stockings mittens gloves
    earrings cufflinks headphones earphones earbuds scissors pliers tongs tweezers shears binoculars handcuffs
    skates skis crutches kneepads clothes scales stairs bagpipes pantyhose flats pumps studs hoops moccasins
    clogs rollerblades boxers briefs joggers sweatpants bottoms dungarees flippers chopsticks
    """
)
"""Plurals of which a pair counts as one thing."""

SINGULAR_IN_S = _words(
    """
    bus lens glass dress cactus octopus hibiscus lotus moss grass brass compass canvas mattress princess
    waitress actress hostess christmas cross chess bass boss walrus platypus hippopotamus rhinoceros iris tennis
    atlas gas species series chassis harness necklaces headdress fortress wilderness virus crocus bonus circus
    apparatus is us this his was has minus plus texas paris los mars venus jesus zeus tyrannosaurus stegosaurus
    brontosaurus bias swiss less business fitness wireless stainless cordless mess kindness lass hummus citrus
    asparagus abacus always adidas xs vs
    """
)

PLACES = _words(
    """
    room kitchen bathroom bedroom office street city town village beach landscape skyline view park forest river
    ocean sea sky sunset sunrise field mountain mountains lake canal valley road highway airport station
    restaurant hotel resort bar cafe store shop market garden yard hall lobby library classroom stadium court
    church interior exterior scene scenery desert island coast harbor harbour port square alley lawn meadow
    jungle countryside apartment condo property estate villa home pool suite runway galaxy universe volcano
    waterfall backyard patio hallway hill cliff bay shore waterfront neighborhood downtown canyon intersection
    background wall floor
    """
)
"""A caption whose first noun is one of these shows a scene."""

BACKDROPS = PLACES | _words(
    """
    building buildings house fence tree trees window windowsill bush bushes grass water wall walls crowd snow
    mirror cloud clouds curtain backdrop lawn table blue white black sun moon stage screen bridge castle door
    rain sunlight
    """
)
"""What something may be in front of without being one of two things."""

FLAT = _words(
    """
    image images poster posters print prints map logo logos card cards wallpaper wallpapers banner icon icons
    emoji emojis font fonts pattern vector clipart thumbnail infographic screenshot postcard triptych flyer
    brochure template templates diagram chart graph flag sticker stickers decal painting drawing sketch
    illustration illustrations plakat collage mural photo photos photograph photography picture pictures sheet
    worksheet page pages pdf magazine certificate label labels typography stamp newspaper fabric tapestry
    graffiti artwork letter
    """
)
"""Pictures and papers, which have no other side."""

PHOTOS = _words("photo photos photograph photography picture pictures image images")
"""Of `FLAT`, those that at the end of a title say no more than that there is a picture of it."""

ART = _words(
    """
    painting drawing sketch illustration poster logo mosaic tapestry collage graffiti print triptych
    """
)
"""Said of the whole picture where it comes after the first clause: "a cat, oil painting"."""

COMMANDS = _words(
    """
    how why what when where view click buy learn read get install find make see download shop enjoy discover
    meet join visit welcome choose save check create begin
    """
)
"""What a caption that speaks to its reader begins with."""

TEXTUAL = _words(
    """
    how why what when where welcome view click buy sale download review reviews guide tips ideas home design
    news best meet getting learn read episode season volume vol chapter conference hotel tour coupon subtitle
    apk travel recipe recipes wedding party university company advisor director ceo manager solutions services
    specs live album music lyrics soundtrack wikipedia blog forum tutorial kit lesson lessons activities course
    handbook manual principles history introduction novel stories today show event festival
    """
)
"""In a title, these speak of writing, news and offers."""

EDGES = PLACES | _words("window windowsill wall fence path curb kerb track tracks")
"""What something may be next to without being one of two things."""

FOREIGN = _words(
    """
    und oder der die das für mit von zum zur auf ein eine le la les des du et pour avec dans une sur el los las
    y con para del en por il lo gli della di per da och av på med og til van het een voor met te na w z do i dla
    """
)
"""Function words of other languages; two of them make a caption foreign."""

THINGS = (
    _words(
        """
    chair table desk sofa couch bench stool bed lamp shelf bookcase cabinet dresser mirror clock watch vase bowl
    plate cup mug bottle jar pot pan kettle teapot toaster blender oven fridge refrigerator knife fork spoon
    basket box chest bag tote backpack purse wallet suitcase case cover shirt t-shirt tshirt tee jacket coat
    dress skirt sweater hoodie sweatshirt crewneck jumper vest suit blouse polo tie belt hat cap beanie helmet
    scarf crown tiara mask wig necklace pendant bracelet ring bangle brooch locket anklet coin medal trophy key
    lock doll teddy bear toy puzzle robot figurine figure statue sculpture bust ornament candle candleholder
    holder lantern chandelier fan heater phone iphone ipad tablet laptop computer monitor keyboard mouse camera
    lens speaker radio television tv headset charger adapter cable battery printer scanner router drone car
    truck van bus motorcycle bike bicycle scooter tractor train locomotive tram plane airplane aircraft jet
    helicopter rocket ship boat yacht canoe kayak sailboat balloon tank trailer wagon cart wheel tire engine
    taillight headlight bumper mount bracket filter pump valve hammer drill saw wrench screwdriver axe sword
    dagger gun rifle pistol shield bow arrow katana guitar piano violin drum trumpet saxophone flute harp tuba
    cello banjo ukulele microphone amplifier ball bat racket racquet glove skateboard surfboard snowboard ski
    frisbee kite umbrella parasol tent hydrant bookend book notebook journal diary pen pencil brush paintbrush
    easel globe telescope microscope compass hourglass typewriter sewing machine cactus tree flower rose
    sunflower tulip orchid gerbera daisy lily plant bonsai mushroom leaf pumpkin apple banana pear pineapple
    watermelon orange lemon strawberry carrot tomato potato cake cupcake cookie donut doughnut pie bread loaf
    croissant pizza burger hamburger sandwich hotdog taco sushi cheese chocolate brownie pudding muffin sundae
    pancake waffle steak dessert salad cat kitten dog puppy corgi beagle bulldog horse pony cow pig sheep goat
    donkey zebra giraffe elephant lion tiger leopard cheetah panda koala monkey gorilla chimpanzee orangutan
    kangaroo rabbit bunny hamster squirrel fox wolf deer moose raccoon badger otter beaver hedgehog sloth hippo
    rhino crocodile alligator lizard chameleon snake cobra frog toad turtle tortoise fish shark whale dolphin
    octopus crab lobster snail spider tarantula scorpion butterfly bee bumblebee beetle ladybug dragonfly ant
    bird eagle owl parrot penguin flamingo peacock swan duck goose chicken rooster hen turkey pigeon crow raven
    whitethroat hummingbird bluebird dragon unicorn dinosaur astronaut knight samurai viking wizard pirate ninja
    warrior soldier angel mermaid snowman house castle cottage tower windmill lighthouse temple pagoda pyramid
    igloo barn gazebo bridge opera throne armor armour mailbox sink toilet bathtub faucet tap shower pillow
    cushion blanket rug carpet curtain quilt towel bedsheet duvet wreath bouquet basketball football baseball
    soccer volleyball golf pedestal cooker mixer grill stove vacuum broom bucket ladder wheelbarrow hose shovel
    rake lawnmower switch button knob handle hinge hook blush lipstick mascara perfume foundation serum shampoo
    soap lotion candelabra candlestick thermometer calculator stapler folder binder stand rack tray dispenser
    dish bin cradle crib stroller swing slide seat recliner ottoman armchair nightstand headboard wardrobe
    sideboard loveseat hutch dock station panel light bulb sconce torch flashlight lighter pipe whistle bell
    anchor barrel keg crate gate door window fence pillar column fountain birdhouse feeder collar leash saddle
    bridle cage aquarium terrarium kimono gown tuxedo apron robe bikini swimsuit bra corset romper onesie bib
    thermos flask tumbler goblet chalice decanter corkscrew grater ladle spatula costume magnet cuff loafer
    pillowcase keychain paddle tub unit wand mat mop iron tool scale diamond shoe boot sandal sneaker slipper
    heel sock stocking mitten earring headphone skate cone sphere cube man woman boy girl child baby kid lady
    guy person player skier surfer snowboarder rider dancer chef bride queen king sign meter traffic-light
    windsurfer polar food meal bun roll fries rice soup drink coffee tea beer wine juice martini cocktail
    margarita ice-cream moon planet sun cloud skull hand eye head face foot tooth heart volkswagen toyota ford
    honda yamaha bmw mercedes porsche ferrari lamborghini chevrolet jeep land-rover
    """
    )
    | PAIRED
)
"""Nouns that a web title must have one of: things that could be cut out and turned around."""

MOTION = _words(
    """
    run walk jump fly dance swim ride spin gallop leap climb crawl fall flip sneeze kick throw catch swing chase
    roll bounce skate ski surf dive race drive fight play eat bite drink cook chop paint write type breathe
    erupt explode burst splash pour spill drip melt peel shake wave march stomp trot hop glide soar flap
    skateboard juggle punch wrestle sail row paddle hunt dig plow farm mow pull push crash travel perform sing
    cut knit train take-off land blow drift float rotate turn twirl grind make water
    """
)
"""Verbs after which a video model moves the object itself (IM-3D, 2402.08682); in no other form than these are nouns
meant."""

ONLY_ING = _words(
    """
    paint train land water make take turn fall cut wave swing row farm play race ski surf drive flip type
    """
)
"""Of `MOTION`, those whose form on -s is more often a noun, or says nothing."""

COMPOUNDS = _words(
    """
    shoe shoes boot boots sneaker sneakers chair horse pool machine board suit table saucer room gear track
    stick pan pot glass glasses glove gloves bag light lights shorts cap jacket wheel car bike boat fish
    squirrel book set pin stone top mill station wagon range school mat knife system unit sword costume oil
    spoon paper jeans hat lessons brush water game card cards racket helmet ship tights leggings fountain
    """
)
"""After these a form on -ing says what something is for: running shoes, a rocking horse."""
